//! The profiles of a store with their resources, and which of them a command means: `--for`, and the hint of a command that
//! names none.

use super::{Context, store};
use crate::driver::{self, TORN_DELAY, TORN_READS};
use crate::error::{Failure, Kind};
use crate::globals::{Globals, Selection};
use crate::grant::{Document, Unreadable};
use crate::protocol::hints::login_at;
use crate::store_address::{Candidate, Choice, ProfileName, choose};
use crate::system::SystemClock;
use crate::text::printable;

/// The most profiles whose documents are read.
const MAX_PROFILES: usize = 1000;

/// What a command does with the profile that `--for` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It works on it.
    Required,
    /// It works on it if there is one.
    IfAny,
    /// It works on no profile.
    Nothing,
}

/// A profile of the store.
pub struct Listed {
    /// Its name.
    pub name: ProfileName,
    /// What its document holds.
    pub content: Content,
}

/// What is known about the document of a profile.
pub enum Content {
    /// It was read.
    Document(Box<Document>),
    /// There is none any more, or it is what a logout leaves.
    Nothing,
    /// It is no document, or cannot be read.
    Unreadable,
    /// It was not read: see [`Listing::unread`].
    Unread,
}

impl Content {
    /// The resources that the tokens of this profile are for.
    pub fn resources(&self) -> &[String] {
        match self {
            Self::Document(document) => &document.resource,
            Self::Nothing | Self::Unreadable | Self::Unread => &[],
        }
    }
}

/// The profiles of a store, sorted.
pub struct Listing {
    /// All profiles.
    pub profiles: Vec<Listed>,
    /// Why some documents were not read.
    pub unread: Option<Failure>,
}

/// The settings with the profile that `--for` means. The hint of a failure is complete. Not inlined: the caller is on the hot
/// path.
#[inline(never)]
pub fn find(url: &str, globals: &Globals, clock: SystemClock, need: Need) -> Result<Globals, Failure> {
    let nothing = Globals { selection: Selection::Default, ..globals.clone() };
    if need == Need::Nothing {
        return Ok(nothing);
    }
    let context = Context::new(globals.clone(), clock);
    match context.covering(url).map_err(|failure| context.completed(failure))? {
        // A login at an address still has to find out whether the profile is that of the address.
        Ok(profile) if need == Need::IfAny => Ok(Globals { profile, ..globals.clone() }),
        Ok(profile) => Ok(Globals { profile, selection: Selection::Name, ..nothing }),
        Err(_) if need == Need::IfAny => Ok(nothing),
        Err(failure) => Err(context.completed(failure)),
    }
}

impl Context {
    /// The profile that covers `url`; the inner failure says that there is none. A document that cannot be read covers
    /// nothing: it must not keep another profile from its token.
    fn covering(&self, url: &str) -> Result<Result<ProfileName, Failure>, Failure> {
        let Listing { profiles, unread } = self.listing()?;
        if let Some(failure) = unread {
            return Err(failure);
        }
        let (mut candidates, mut unreadable) = (Vec::new(), Vec::new());
        for Listed { name, content } in profiles {
            match content {
                Content::Document(document) => {
                    candidates.push(Candidate { name, resources: document.resource });
                }
                Content::Unreadable => unreadable.push(name),
                Content::Nothing | Content::Unread => {}
            }
        }
        match choose(&candidates, url) {
            Choice::One(name) => Ok(Ok(name)),
            Choice::Several(names) => {
                let message = format!("several profiles are for {}: {}", printable(url), list(&names));
                let first = names.into_iter().next().unwrap_or_default();
                let hint = format!("onegrant --profile {first} status   # or another of them");
                Err(Failure::new(Kind::Usage, message).hint(hint))
            }
            Choice::Nothing => {
                let mut message = format!("no profile is for {}", printable(url));
                if !unreadable.is_empty() {
                    message.push_str(&format!("; cannot read the document of {}", list(&unreadable)));
                }
                let hint = match self.store.broker() {
                    Some(_) => {
                        format!("where the grant is, run {}   # then serve this profile", login_at(url))
                    }
                    None => login_at(url),
                };
                Ok(Err(Failure::new(Kind::LoginRequired, message).hint(hint)))
            }
        }
    }

    /// The profiles of the store with their documents. Files whose names no profile can have are left out. All torn
    /// documents are read again after the same pause, so many cost no more than one.
    pub fn listing(&self) -> Result<Listing, Failure> {
        let names = self.profiles()?;
        let mut profiles: Vec<Listed> = names.map(|name| Listed { name, content: Content::Unread }).collect();
        let unread = profiles.get(MAX_PROFILES).map(|_| {
            let message = format!("the store has more than {MAX_PROFILES} profiles");
            Failure::new(Kind::Usage, message).hint("onegrant profiles   # then: --profile NAME")
        });
        let mut waiting: Vec<&mut Listed> = profiles.iter_mut().take(MAX_PROFILES).collect();
        for reads in 0..=TORN_READS {
            let mut torn = Vec::new();
            for profile in waiting {
                match self.content(&profile.name) {
                    Ok((content, is_torn)) => {
                        profile.content = content;
                        torn.extend(is_torn.then_some(profile));
                    }
                    Err(failure) => return Ok(Listing { profiles, unread: Some(failure) }),
                }
            }
            if torn.is_empty() || reads == TORN_READS {
                break;
            }
            self.store.pause(TORN_DELAY);
            waiting = torn;
        }
        Ok(Listing { profiles, unread })
    }

    /// The names of the profiles of the store, sorted.
    fn profiles(&self) -> Result<impl Iterator<Item = ProfileName>, Failure> {
        let names = store::profiles(&self.globals, self.clock)?;
        Ok(names.into_iter().filter_map(|name| ProfileName::new(&name)))
    }

    /// What the document of a profile holds, and whether another read may find more. Fails if the store does not answer now.
    fn content(&self, profile: &ProfileName) -> Result<(Content, bool), Failure> {
        if self.left().is_zero() {
            let message = "the deadline passed before all profiles were read";
            return Err(
                Failure::new(Kind::Temporary, message).hint("try again, or wait longer: --timeout SECONDS")
            );
        }
        let profile = self.of_profile(profile.clone());
        let snapshot = match profile.store.read() {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => return Ok((Content::Nothing, false)),
            Err(failure) if failure.kind == Kind::Temporary => return Err(failure),
            Err(_) => return Ok((Content::Unreadable, false)),
        };
        Ok(match driver::parse(snapshot, &*profile.store) {
            Ok(stored) if stored.document.has_no_grant() => (Content::Nothing, false),
            Ok(stored) => (Content::Document(Box::new(stored.document)), false),
            Err((Unreadable::Newer(_), _)) => (Content::Unreadable, false),
            Err(_) => (Content::Unreadable, true),
        })
    }

    /// The hint of a failure, complete: it works on this grant in the shell that made the call. If no profile was named, there
    /// is no default profile, and the store has only one, a failure that requires a login gets the hint to run `command` with
    /// that profile.
    pub fn hint(&self, failure: &Failure, command: &str) -> Option<String> {
        let other = match failure.kind {
            Kind::LoginRequired => self.only_other_profile(),
            _ => None,
        };
        let other = other.map(|other| format!("onegrant --profile {other} {command}"));
        other.as_ref().or(failure.hint.as_ref()).map(|hint| self.complete(hint))
    }

    /// The only profile of the store, if the command line names none, and it is not the default one.
    pub fn only_other_profile(&self) -> Option<ProfileName> {
        // A broker serves one profile, whatever its name.
        let is_broker = self.store.broker().is_some();
        if self.globals.selection != Selection::Default || is_broker || self.left().is_zero() {
            return None;
        }
        let mut names = self.profiles().ok()?;
        let only = names.next().filter(|name| *name != ProfileName::default())?;
        names.next().is_none().then_some(only)
    }
}

fn list(names: &[ProfileName]) -> String {
    printable(&names.iter().map(ProfileName::as_str).collect::<Vec<_>>().join(", "))
}
