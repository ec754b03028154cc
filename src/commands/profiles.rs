//! `onegrant profiles`: what the store keeps.

use crate::arguments::ProfileName;
use crate::output;
use crate::profile::{Context, store};

/// Lists the profiles, one a line, sorted. Files whose names no profile can have are not ours.
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
