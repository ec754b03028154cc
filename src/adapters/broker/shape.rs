//! The shapes of other servers that a broker can have beside its own: programs that know one of them take a token without being
//! changed. Another shape is one file in `adapters`, and one line for each question here.

use super::server::{Head, response};
use crate::adapters::gce;
use crate::error::Failure;
use crate::grant::{Document, Session, TokenKind, UnixSeconds};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The server that a broker looks like. Its paths take no key, so only processes of one user get an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// Google's metadata server.
    Gce,
}

/// The name of each shape in `exec --as`.
pub const SHAPES: &[(&str, Shape)] = &[("gce", Shape::Gce)];

/// A question in one of the shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// [`gce`]
    Gce(gce::Question),
}

/// What a document says beside its tokens, for one of the shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts {
    /// [`gce`]
    Gce(gce::Facts),
}

impl Shape {
    /// Its name.
    pub fn name(self) -> &'static str {
        SHAPES.iter().find(|(_, shape)| *shape == self).map_or("", |(name, _)| name)
    }

    /// What the request asks for. `None`: its path is none of this shape. An error is the whole response.
    pub fn ask(self, head: &Head) -> Option<Result<Question, Zeroizing<Vec<u8>>>> {
        match self {
            Self::Gce => {
                let asked = gce::ask(head.method, head.path, head.query, |name| head.field(name))?;
                Some(asked.map(Question::Gce).map_err(|reply| bytes(&reply)))
            }
        }
    }

    /// How long a token should last at least that is given out in this shape, in seconds.
    pub fn min_ttl(self) -> i64 {
        match self {
            Self::Gce => i64::try_from(gce::MIN_TTL_SECONDS).unwrap_or_default(),
        }
    }

    /// The facts. `variable` looks a variable of the environment up.
    pub fn facts(self, document: Option<&Document>, variable: impl Fn(&str) -> Option<String>) -> Facts {
        match (self, document) {
            (Self::Gce, Some(document)) => {
                Facts::Gce(gce::Facts::of(document, variable("GOOGLE_CLOUD_PROJECT")))
            }
            (Self::Gce, None) => Facts::Gce(gce::Facts::default()),
        }
    }

    /// The variables that lead a program to the broker at this port.
    pub fn variables(self, port: u16) -> impl Iterator<Item = (&'static str, String)> {
        // The first is for Google's libraries, the second for gcloud and older libraries, the third for their look whether there
        // is such a server at all.
        let names = match self {
            Self::Gce => ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"],
        };
        names.into_iter().map(move |name| (name, format!("127.0.0.1:{port}")))
    }
}

impl Question {
    /// Which token the answer needs. `None`: what the document says is enough.
    pub fn needs(&self) -> Option<TokenKind> {
        match self {
            Self::Gce(question) => question.needs(),
        }
    }

    /// The whole response.
    pub fn reply(&self, facts: &Facts, session: Option<&Session>, now: UnixSeconds) -> Zeroizing<Vec<u8>> {
        match (self, facts) {
            (Self::Gce(question), Facts::Gce(facts)) => bytes(&question.reply(facts, session, now)),
        }
    }

    /// The whole response if there is no token.
    pub fn failed(&self, failure: &Failure) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Gce(question) => bytes(&question.failed(failure)),
        }
    }
}

fn bytes(reply: &gce::Reply) -> Zeroizing<Vec<u8>> {
    response(reply.status, reply.content_type, reply.fields, &reply.body)
}
