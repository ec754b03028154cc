//! `onegrant profiles`: lists the profiles in the store.

use crate::output;
use crate::profile::Context;
use crate::text::printable;

/// Prints the profiles, sorted, one per line: the name, a tab, and the resources that its tokens are for. A profile without
/// a resource, or with a document that cannot be read, has only its name. A file with a name that no profile can have is
/// left out.
pub fn run(context: &Context) -> anyhow::Result<()> {
    let mut text = String::new();
    for profile in context.listing()?.profiles {
        text.push_str(profile.name.as_str());
        let resources = printable(&profile.content.resources().join(" "));
        if !resources.is_empty() {
            text.push('\t');
            text.push_str(&resources);
        }
        text.push('\n');
    }
    output::answer(text.as_bytes())
}
