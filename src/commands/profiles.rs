//! `onegrant profiles`: lists the profiles in the store.

use crate::output;
use crate::profile::{Context, store};
use crate::store_address::ProfileName;

/// Prints the names of the profiles, sorted, one per line. A file with a name that no profile can have is left out.
pub fn run(context: &Context) -> anyhow::Result<()> {
    let mut text = String::new();
    for profile in store::profiles(&context.globals.store, context.left())? {
        if ProfileName::new(&profile).is_some() {
            text.push_str(&profile);
            text.push('\n');
        }
    }
    output::answer(text.as_bytes())
}
