//! `onegrant doctor ADDRESS`: what a login at this address would do, with the same requests. Nothing is registered or stored.

use super::Check;
use crate::commands::login::{self, ClientChoice, Outlook};
use crate::error::Failure;
use crate::grant::Flow;
use crate::profile::Context;
use crate::protocol::address_search::{Departure, Finding, SearchPurpose};
use crate::protocol::hints::login_at;
use crate::store_address::ProfileName;

/// One line for each request, one for each departure from a standard, and what a login would make of it. And the profile that
/// it would store the grant in, if that is known.
pub fn checks(address: &str, context: &Context) -> (Vec<Check>, Option<ProfileName>) {
    let mut checks = Vec::new();
    let found = login::outlook(address, context, |finding| checks.extend(steps(finding)));
    match found {
        Ok(outlook) => {
            checks.extend(conclusions(address, &outlook));
            (checks, outlook.profile.ok())
        }
        Err(failure) => {
            checks.push(Check::fail("server", failure));
            (checks, None)
        }
    }
}

fn steps(finding: &Finding) -> impl Iterator<Item = Check> {
    let name = match &finding.purpose {
        SearchPurpose::Probe => "probe",
        SearchPurpose::Resource => "resource",
        SearchPurpose::Issuer(..) => "issuer",
        SearchPurpose::EndOfSession => "session",
    };
    let what = format!("{}: {}", finding.request, finding.answer);
    let step = if finding.is_unavailable { Check::warn(name, what) } else { Check::ok(name, what) };
    std::iter::once(step).chain(finding.departures.iter().map(departure))
}

fn departure(departure: &Departure) -> Check {
    match departure.matters {
        true => Check::warn("departure", format!("{} (this matters)", departure.what)),
        false => Check::ok("departure", format!("{} (this does not matter)", departure.what)),
    }
}

fn conclusions(address: &str, outlook: &Outlook) -> Vec<Check> {
    let Outlook { profile, server, client, flow, scope } = outlook;
    let issuer = server.issuer.as_deref().unwrap_or("unknown");
    let what = match &server.resource {
        Some(resource) => format!("a resource: {}; its issuer is {issuer}", resource.identifier),
        None => format!("an authorization server: {issuer}"),
    };
    let with_address = |failure: &Failure| {
        let hint = failure.hint.as_ref().map(|hint| match hint.strip_prefix("onegrant login ") {
            Some(options) if options.starts_with("--") => format!("{} {options}", login_at(address)),
            _ => hint.clone(),
        });
        Failure { hint, ..failure.clone() }
    };
    let client = match client {
        Ok(ClientChoice::New(new)) => {
            Check::ok("client", format!("a login registers one at {}", new.endpoint))
        }
        Ok(ClientChoice::Known(client)) => Check::ok("client", format!("a login uses {}", client.id)),
        // A person can name a client, so nothing is broken.
        Err(failure) => {
            let failure = with_address(failure);
            Check::warn("client", failure.message).hint_of(failure.hint)
        }
    };
    let flow = match flow {
        Ok(Flow::Device) => Check::ok("flow", "a login shows a code for any device"),
        Ok(Flow::Browser | Flow::Imported | Flow::Client) => Check::ok("flow", "a login uses a browser"),
        Err(failure) => Check::fail("flow", with_address(failure)),
    };
    let asked =
        scope.as_deref().map_or("a login names none".to_owned(), |scope| format!("a login asks for {scope}"));
    let mut checks = vec![Check::ok("server", what), client, flow, Check::ok("scope", asked)];
    checks.extend(profile.as_ref().err().map(|failure| Check::fail("profile", failure.clone())));
    checks
}
