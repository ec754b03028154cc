//! The text of a token, as a command prints it or writes it to a file.

use super::Context;
use crate::adapters::formats::{self, Format, Given};
use crate::environment;
use crate::error::{Failure, Kind};

/// The text in this format. Only this function and the answers to other programs (`adapters`) give a secret out.
pub fn text<'a>(given: impl Into<Given<'a>>, format: Format, context: &Context) -> Result<String, Failure> {
    let given = given.into();
    match format {
        Format::Raw => Ok(format!("{}\n", given.token())),
        Format::Bare => Ok(given.token().to_owned()),
        Format::Bearer => Ok(formats::bearer(given)? + "\n"),
        Format::Header => Ok(format!("Authorization: {}\n", formats::bearer(given)?)),
        Format::HeadersJson => Ok(format!("{}\n", formats::headers(given)?)),
        Format::Json => Ok(format!("{}\n", formats::object(given))),
        Format::Curl => formats::curl(given),
        Format::Netrc => {
            let document = context.document()?.ok_or_else(|| context.no_grant())?;
            formats::netrc(given, &document)
        }
        Format::ExecCredential => {
            let variable = environment::variable("KUBERNETES_EXEC_INFO");
            let requested = variable
                .map(|value| value.into_string())
                .transpose()
                .map_err(|_| Failure::new(Kind::Usage, "KUBERNETES_EXEC_INFO: it is not UTF-8"))?;
            formats::exec_credential(given, requested.as_deref())
        }
    }
}
