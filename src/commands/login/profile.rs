//! The profile of a resource, if the command line names none.

use super::announced::Announced;
use crate::cli;
use crate::driver::{self, Existing};
use crate::error::{Failure, Kind};
use crate::globals::Selection;
use crate::grant::Document;
use crate::profile::Context;
use crate::protocol::hints::login_at;
use crate::store_address::names;
use crate::text::printable;

/// The context of the profile for the resource: the first of its names that no other grant has. `None`: the command line names
/// a profile, or no resource.
pub fn of_resource(
    arguments: &cli::Login,
    announced: &Announced,
    context: &Context,
) -> Result<Option<Context>, Failure> {
    let is_named = context.globals.selection == Selection::Name;
    let existing = |context: &Context| driver::read_for_login(&*context.store, context);
    let Some(resource) = announced.resource.as_ref().filter(|_| !is_named) else {
        return match (&context.globals.selection, &announced.metadata) {
            (Selection::Resource(url), Some(metadata)) => match existing(context)? {
                Existing::Document(stored) if stored.document.issuer.as_ref() != Some(&metadata.issuer) => {
                    Err(another_server(url, &metadata.issuer))
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        };
    };
    // What an option says replaces what the server says, in the document, too.
    let resources = match arguments.resource.as_slice() {
        [] => std::slice::from_ref(&resource.identifier),
        given => given,
    };
    // `--for` may mean a profile of this resource with any name.
    if matches!(context.globals.selection, Selection::Resource(_))
        && matches!(existing(context)?, Existing::Document(stored) if stored.document.resource == resources)
    {
        return Ok(None);
    }
    for name in names(&resource.identifier) {
        let context = context.of_profile(name);
        let is_free = match existing(&context)? {
            Existing::Document(stored) => is_of(&stored.document, resources),
            Existing::Nothing => true,
            // Nothing is known about the grant in it.
            Existing::Unreadable => false,
        };
        if is_free {
            return Ok(Some(context));
        }
    }
    let message =
        format!("cannot log in: other grants have the names of the profile for {}", resource.identifier);
    let hint = format!("{} --profile NAME   # another name", login_at(&resource.identifier));
    Err(Failure::new(Kind::Usage, message).hint(hint))
}

/// A grant of another server than that of the resource that `--for` names, or its variable, would end the grant of the resource.
fn another_server(resource: &str, issuer: &str) -> Failure {
    let (resource, issuer) = (printable(resource), printable(issuer));
    let message =
        format!("cannot log in: --for (or ONEGRANT_FOR) means the grant for {resource}, not one of {issuer}");
    Failure::new(Kind::Usage, message)
        .hint(format!("{} --profile NAME   # instead of --for", login_at(&issuer)))
}

/// Whether the document is that of the resource, or of nothing any more.
fn is_of(document: &Document, resources: &[String]) -> bool {
    document.resource == resources || document.has_no_grant()
}

/// The error with hints for the profile of the context.
pub fn completed(mut error: anyhow::Error, context: &Context) -> anyhow::Error {
    if let Some(failure) = error.downcast_mut::<Failure>() {
        *failure = context.completed(failure.clone());
    }
    error
}
