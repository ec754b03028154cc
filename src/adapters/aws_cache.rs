//! What a process of `onegrant helper aws` leaves for the next one: the credentials of a role, and the failure of the last
//! request. See "Credentials of AWS" in `docs/design.md`. Bytes go in and out.

use super::aws;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret, UnixSeconds};
use crate::protocol::claims::claims;
use crate::protocol::sts::{self, Credentials, Role};
use crate::text::{own_hint, own_text};
use serde_json::{Value, json};

/// The version of the format.
const VERSION: u64 = 1;

/// How long before their end credentials are replaced, in seconds: the caller may use them for some minutes more.
const REPLACED_BEFORE_END_SECONDS: i64 = 300;

/// The longest session of a role, in seconds (AssumeRoleWithWebIdentity, `DurationSeconds`). Older credentials have ended,
/// whatever the clock says.
const LONGEST_SECONDS: i64 = 43_200;

/// How far `now` may be before the request for the credentials, in seconds. A larger difference means that the clock has moved.
const CLOCK_TOLERANCE_SECONDS: i64 = 60;

/// Whose credentials they are: all that must be the same for them to be handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The digest of store, profile, role and server.
    pub key: String,
    /// The digest of the login and of the person in the ID token. A refresh does not change it.
    pub grant: String,
}

/// The digest of store, profile, role and server: the entry for each is in a file of its own.
pub fn key(store: &str, profile: &str, role: &Role) -> String {
    let Role { endpoint, arn, session_name, duration_seconds } = role;
    digest(&json!([store, profile, arn, session_name, duration_seconds, endpoint]))
}

/// The digest of the login and of the person in the ID token. A document that another program wrote names no login; then the
/// person, the issuer and the audience have to be enough.
pub fn grant(document: &Document, id_token: Option<&Secret>) -> String {
    let claims = id_token.and_then(|token| claims(token.expose())).unwrap_or_default();
    let login = document.login.as_ref().map(|login| login.id.as_str());
    digest(&json!([login, document.client_id, claims.get("iss"), claims.get("sub"), claims.get("aud")]))
}

fn digest(value: &Value) -> String {
    Secret::new(value.to_string()).sha256()
}

/// What is kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Random: no two entries have the same bytes.
    id: String,
    owner: Owner,
    /// When the credentials were requested.
    obtained_at: UnixSeconds,
    credentials: Option<Credentials>,
    /// How the last request failed, for the processes that waited for it. Later ones make a request of their own.
    failure: Option<Failure>,
}

/// What an entry is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// Hand them out.
    Fresh(Credentials),
    /// They end soon. Replace them; hand them out if that fails.
    Ageing(Credentials),
    /// There are none.
    Nothing,
}

impl Cached {
    /// The credentials that still work.
    pub fn credentials(self) -> Option<Credentials> {
        match self {
            Self::Fresh(credentials) | Self::Ageing(credentials) => Some(credentials),
            Self::Nothing => None,
        }
    }
}

impl Entry {
    /// An entry without credentials, of a request that was made at this instant. `id` is random.
    pub fn new(owner: &Owner, id: String, obtained_at: UnixSeconds) -> Self {
        Self { id, owner: owner.clone(), obtained_at, credentials: None, failure: None }
    }

    /// The entry with these credentials.
    pub fn with_credentials(self, credentials: &Credentials) -> Self {
        Self { credentials: Some(credentials.clone()), ..self }
    }

    /// The entry with this failure. Credentials of the `earlier` entry stay if they still work.
    pub fn with_failure(self, failure: &Failure, earlier: Option<Self>, now: UnixSeconds) -> Self {
        let failure = Some(failure.clone());
        match earlier.filter(|earlier| earlier.judge(now) != Cached::Nothing) {
            Some(earlier) => Self { id: self.id, failure, ..earlier },
            None => Self { failure, ..self },
        }
    }

    /// Reads an entry. `None` if it is torn, of another version, or of another owner.
    pub fn parse(bytes: &[u8], owner: &Owner) -> Option<Self> {
        let entry: Value = serde_json::from_slice(bytes).ok()?;
        let text = |value: &Value, name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let found = Owner { key: text(&entry, "key")?, grant: text(&entry, "grant")? };
        if entry.get("version")?.as_u64()? != VERSION || found != *owner {
            return None;
        }
        let failure = entry.get("failure").and_then(|failure| {
            let code = u8::try_from(failure.get("exit_code")?.as_u64()?).ok()?;
            let failed = Failure::new(Kind::from_code(code), own_text(&text(failure, "message")?));
            Some(failed.hint_of(text(failure, "hint").as_deref().map(own_hint).as_deref()))
        });
        Some(Self {
            id: text(&entry, "id")?,
            owner: found,
            obtained_at: entry.get("obtained_at")?.as_i64()?,
            credentials: entry.get("credentials").and_then(sts::credentials),
            failure,
        })
    }

    /// The text to write.
    pub fn text(&self) -> Secret {
        let credentials = self.credentials.as_ref();
        let failure = self.failure.as_ref().map(|failure| {
            json!({ "exit_code": failure.kind.code(), "message": failure.message, "hint": failure.hint })
        });
        let entry = json!({
            "version": VERSION,
            "id": self.id,
            "key": self.owner.key,
            "grant": self.owner.grant,
            "obtained_at": self.obtained_at,
            "credentials": credentials.map(|it| aws::members(it, it.expires_at.into())),
            "failure": failure,
        });
        Secret::new(entry.to_string())
    }

    /// How the last request failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The credentials, for a process that waited for this request. Whatever their end is, another request brings no better
    /// ones: the clock of this machine may be ahead of the server's.
    pub fn newest(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// What the credentials are good for.
    pub fn judge(&self, now: UnixSeconds) -> Cached {
        let Some(credentials) = &self.credentials else { return Cached::Nothing };
        let age = now.saturating_sub(self.obtained_at);
        if !(-CLOCK_TOLERANCE_SECONDS..LONGEST_SECONDS).contains(&age) {
            return Cached::Nothing;
        }
        match credentials.expires_at.saturating_sub(now) {
            ..=0 => Cached::Nothing,
            1..=REPLACED_BEFORE_END_SECONDS => Cached::Ageing(credentials.clone()),
            _ => Cached::Fresh(credentials.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::document;

    const NOW: UnixSeconds = 1_700_000_000;

    fn owner() -> Owner {
        Owner { key: "k".to_owned(), grant: "g".to_owned() }
    }

    fn credentials(left: i64) -> Credentials {
        Credentials {
            access_key_id: Secret::new("a"),
            secret_access_key: Secret::new("s"),
            session_token: Secret::new("t"),
            expires_at: NOW + left,
        }
    }

    fn entry(credentials: &Credentials, obtained_at: UnixSeconds) -> Entry {
        Entry::new(&owner(), "1".to_owned(), obtained_at).with_credentials(credentials)
    }

    #[test]
    #[rustfmt::skip]
    fn credentials_are_handed_out_until_five_minutes_before_their_end() {
        let (fresh, ageing, nothing) = ("Fresh", "Ageing", "Nothing");
        // (seconds left, seconds since the request, judgement)
        let cases = [
            (3600,     0,       fresh),
            (301,      3299,    fresh),
            (300,      3300,    ageing),
            (1,        3599,    ageing),
            (0,        3600,    nothing),
            (-5,       3605,    nothing),
            (3600,     -60,     fresh),
            (3600,     -61,     nothing), // the clock was set back
            (3600,     43_199,  fresh),
            (3600,     43_200,  nothing),
            (i64::MAX, 0,       fresh),
            (i64::MIN, 0,       nothing),
        ];
        for (left, age, wanted) in cases {
            let credentials = Credentials { expires_at: NOW.saturating_add(left), ..credentials(0) };
            let entry = entry(&credentials, NOW - age);
            assert!(format!("{:?}", entry.judge(NOW)).starts_with(wanted), "{left} {age}");
        }
    }

    #[test]
    fn an_entry_is_read_back_by_its_owner_alone() {
        let entry = entry(&credentials(3600), NOW);
        let bytes = entry.text().expose().as_bytes().to_vec();
        assert_eq!(Entry::parse(&bytes, &owner()), Some(entry));
        for other in [Owner { key: "x".to_owned(), ..owner() }, Owner { grant: "x".to_owned(), ..owner() }] {
            assert_eq!(Entry::parse(&bytes, &other), None);
        }
        let text = String::from_utf8(bytes.clone()).unwrap();
        let later = text.replace("\"version\":1", "\"version\":2");
        for torn in [&bytes[..bytes.len() - 1], b"", b"{}", b"[]", b"\xff", later.as_bytes()] {
            assert_eq!(Entry::parse(torn, &owner()), None);
        }
    }

    #[test]
    fn a_failure_leaves_credentials_that_still_work() {
        let failure = Failure::new(Kind::Temporary, "no connection");
        for (left, is_kept) in [(200, true), (0, false)] {
            let earlier = entry(&credentials(left), NOW - 3400);
            let after = Entry::new(&owner(), "2".to_owned(), NOW);
            let after = after.with_failure(&failure, Some(earlier), NOW);
            assert_eq!(after.judge(NOW).credentials(), is_kept.then(|| credentials(left)));
            assert_eq!((after.failure(), after.id.as_str()), (Some(&failure), "2"));
            assert_eq!(Entry::parse(after.text().expose().as_bytes(), &owner()), Some(after));
        }
    }

    #[test]
    fn a_refresh_keeps_the_grant_and_a_login_changes_it() {
        let token = |sub: &str, exp: u32| {
            use base64::Engine;
            let claims = format!(r#"{{"iss":"i","sub":"{sub}","aud":"c","exp":{exp}}}"#);
            Some(Secret::new(format!("e30.{}.c2ln", base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(claims))))
        };
        let document = document();
        let of = |token: Option<Secret>| grant(&document, token.as_ref());
        let before = of(token("alice", 1));
        assert_eq!(of(token("alice", 2)), before);
        assert_ne!(of(token("bob", 2)), before);
        assert_ne!(of(None), before);
        let login = serde_json::from_str(r#"{"id":"1","at":1,"flow":"device"}"#).unwrap();
        let other = Document { login: Some(login), ..document.clone() };
        assert_ne!(grant(&other, token("alice", 2).as_ref()), before);
    }

    #[test]
    fn each_part_of_a_key_counts() {
        let role = Role {
            endpoint: "https://sts.example/".to_owned(),
            arn: "arn:aws:iam::1:role/r".to_owned(),
            session_name: "s".to_owned(),
            duration_seconds: None,
        };
        let others = [
            Role { endpoint: "https://sts.example/a".to_owned(), ..role.clone() },
            Role { arn: "arn:aws:iam::1:role/q".to_owned(), ..role.clone() },
            Role { session_name: "t".to_owned(), ..role.clone() },
            Role { duration_seconds: Some(900), ..role.clone() },
        ];
        let mut keys: Vec<String> = others.iter().map(|role| key("file:/a", "default", role)).collect();
        keys.extend([key("file:/b", "default", &role), key("file:/a", "work", &role)]);
        keys.push(key("file:/a", "default", &role));
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
