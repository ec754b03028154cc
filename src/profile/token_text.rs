//! The text of a token, as a command prints it or writes it to a file.

use super::Context;
use crate::adapters::formats::{self, Format};
use crate::environment;
use crate::error::{Failure, Kind};
use crate::grant::Session;

/// The text in this format. Only this function and the answers to other programs (`adapters`) give a secret out.
pub fn text(session: &Session, format: Format, context: &Context) -> Result<String, Failure> {
    match format {
        Format::Raw => Ok(format!("{}\n", session.access_token.expose())),
        Format::Bearer => Ok(formats::bearer(session)? + "\n"),
        Format::Header => Ok(format!("Authorization: {}\n", formats::bearer(session)?)),
        Format::HeadersJson => Ok(format!("{}\n", formats::headers(session)?)),
        Format::Json => Ok(format!("{}\n", formats::object(session))),
        Format::Curl => formats::curl(session),
        Format::Netrc => {
            let document = context.document()?.ok_or_else(|| context.no_grant())?;
            formats::netrc(session, &document)
        }
        Format::ExecCredential => {
            let variable = environment::variable("KUBERNETES_EXEC_INFO");
            let requested = variable
                .map(|value| value.into_string())
                .transpose()
                .map_err(|_| Failure::new(Kind::Usage, "KUBERNETES_EXEC_INFO: it is not UTF-8"))?;
            formats::exec_credential(session, requested.as_deref())
        }
    }
}
