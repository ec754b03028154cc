//! Discovery: finds the metadata of an issuer (RFC 8414, OpenID Connect Discovery 1.0).

use super::ask;
use crate::error::{Failure, Kind};
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::address_search::{
    Finding, Located, Question, Search, SearchEvent, SearchPurpose, SearchStep, Standing,
};
use crate::protocol::metadata::{Discovered, Metadata, address_of, candidates, read, without_metadata};
use crate::protocol::reach::{Reach, refusal};
use crate::protocol::redirect::{self, MOST_REDIRECTS, Redirection};
use crate::protocol::{Request, Response};
use crate::text::printable;
use std::time::{Duration, Instant};
use std::vec;

/// How long the end of a session may take, and at most a quarter of the time that is left: the login needs no answer to it.
const END_OF_SESSION_LIMIT: Duration = Duration::from_secs(2);

/// One address where metadata may be, and what the server answered there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryStep {
    /// The address.
    pub url: String,
    /// What is there.
    pub found: DiscoveryResult,
}

/// What is at an address where metadata may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryResult {
    /// The metadata of this issuer.
    Metadata(Box<Metadata>),
    /// Metadata that must not be used.
    Refused(Failure),
    /// No metadata.
    Nothing {
        /// The reason, in words.
        why: String,
        /// Whether the server may answer otherwise later: status 429 or 5xx.
        is_temporary: bool,
        /// Where a redirect points that is not followed, if that is an address.
        target: Option<String>,
    },
}

/// The steps of one discovery, in order. The next request is sent when the next step is asked for, so the caller decides
/// when it knows enough. A step fails if its server gives no answer.
pub struct Discovery<'a, Ask> {
    issuer: &'a str,
    urls: vec::IntoIter<String>,
    ask: Ask,
}

impl<'a, Ask: FnMut(&str) -> Result<Response, Failure>> Discovery<'a, Ask> {
    /// The discovery of `issuer`. `document` is the address of its metadata, if that is known: it comes first. `ask` sends a
    /// GET request without a credential.
    pub fn new(issuer: &'a str, document: Option<&str>, ask: Ask) -> Result<Self, Failure> {
        let others = candidates(issuer)?.into_iter().filter(|url| Some(url.as_str()) != document);
        let urls: Vec<String> = document.map(str::to_owned).into_iter().chain(others).collect();
        Ok(Self { issuer, urls: urls.into_iter(), ask })
    }

    fn step(&mut self, url: String) -> Result<DiscoveryStep, Failure> {
        let (response, stray) = fetch(&url, MOST_REDIRECTS, &mut self.ask)?;
        let found = match read(self.issuer, &response) {
            Discovered::Metadata(metadata) => DiscoveryResult::Metadata(metadata),
            Discovered::Refused(failure) => DiscoveryResult::Refused(failure),
            Discovered::Nothing(why) => {
                let is_temporary = matches!(response.status, 429 | 500..);
                let (why, target) = stray.map_or((why, None), |stray| (stray.what, stray.target));
                DiscoveryResult::Nothing { why, is_temporary, target }
            }
        };
        Ok(DiscoveryStep { url, found })
    }
}

impl<Ask: FnMut(&str) -> Result<Response, Failure>> Iterator for Discovery<'_, Ask> {
    type Item = Result<DiscoveryStep, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let url = self.urls.next()?;
        Some(self.step(url))
    }
}

/// A redirect that is not followed.
struct Stray {
    what: String,
    /// Where it points, if that is an address.
    target: Option<String>,
}

/// Asks for metadata at `url`. Redirects are followed within the origin of `url`, at most `most` of them: the request
/// carries no credential, and what the metadata is about is checked.
fn fetch(
    url: &str,
    most: usize,
    mut ask: impl FnMut(&str) -> Result<Response, Failure>,
) -> Result<(Response, Option<Stray>), Failure> {
    let mut url = url.to_owned();
    let mut response = ask(&url)?;
    let mut followed = 0;
    loop {
        let status = response.status;
        let (what, target) = match redirect::redirection(&url, &response) {
            Redirection::Done => return Ok((response, None)),
            Redirection::Follow(target) if followed < most => {
                followed += 1;
                response = ask(&target)?;
                url = target;
                continue;
            }
            Redirection::Follow(_) => {
                (format!("more than {most} redirects, the last one from {}", printable(&url)), None)
            }
            Redirection::Elsewhere { target: None } => {
                (format!("status {status}, a redirect to nowhere"), None)
            }
            Redirection::Elsewhere { target: Some(target) } => {
                let what = format!(
                    "status {status}, a redirect to {target}, which is not followed: it is no address of this origin"
                );
                (what, Some(target))
            }
        };
        return Ok((response, Some(Stray { what, target })));
    }
}

/// Discovers the metadata of `issuer`: the first that is of this issuer, with the endpoints that only another document of the
/// same server names. `document` is the address of the metadata, if that is known. `timeout` bounds all requests together.
///
/// It is a temporary failure if the server cannot be reached or answers with 429 or 5xx, and a failure of usage if the issuer
/// has no metadata or only that of another issuer. Also gives the client for what the metadata names.
pub fn discover(
    client: &HttpClient,
    issuer: &str,
    document: Option<&str>,
    timeout: Duration,
) -> Result<(Metadata, HttpClient), Failure> {
    let client = &client.limited_to(Reach::Loopback);
    let what = format!("cannot discover the endpoints of {}", printable(issuer));
    let began = Instant::now();
    let get = |url: &str| ask(client, &Request::get(url), timeout.saturating_sub(began.elapsed()), &what);
    let mut metadata: Option<Metadata> = None;
    let mut refused = None;
    let mut is_troubled = false;
    let mut places = Vec::new();
    let mut elsewhere = None;
    for step in Discovery::new(issuer, document, get)? {
        let DiscoveryStep { url, found } = match step {
            // The metadata is usable, even if it is not complete.
            Err(_) if metadata.is_some() => break,
            step => step?,
        };
        match found {
            DiscoveryResult::Metadata(found) => {
                let known = match metadata {
                    Some(known) => known.completed_by(*found),
                    None => *found,
                };
                let is_complete = known.is_complete();
                metadata = Some(known);
                if is_complete {
                    break;
                }
            }
            DiscoveryResult::Refused(failure) => refused = refused.or(Some(failure)),
            DiscoveryResult::Nothing { why, is_temporary, target } => {
                is_troubled |= is_temporary;
                places.push(format!("{url} ({why})"));
                elsewhere = elsewhere.or(target);
            }
        }
    }
    if let Some(metadata) = metadata {
        return with_limit(metadata, client);
    }
    if let Some(failure) = refused {
        return Err(failure);
    }
    let kind = if is_troubled { Kind::Temporary } else { Kind::Usage };
    let failure = Failure::new(kind, format!("{what}: no metadata at {}", places.join(", ")));
    Err(if is_troubled { failure } else { failure.hint(without_metadata(elsewhere.as_deref())) })
}

/// Searches for the authorization server of an address. `left` is the time until the deadline. `note` is told what each answer
/// was. Also gives the client for what the server names: it reaches no addresses that can be reached from fewer places than
/// the server itself.
pub fn search(
    client: &HttpClient,
    address: &str,
    left: impl Fn() -> Duration,
    mut note: impl FnMut(&Finding),
) -> Result<(Located, HttpClient), Failure> {
    // A person named the address, so it may be anywhere.
    let first = client.limited_to(Reach::Loopback);
    // The client for the issuer that was asked last, if the resource names it.
    let mut named: Option<(String, HttpClient)> = None;
    let mut search = Search::new(address)?;
    let mut event = SearchEvent::Begun;
    loop {
        let (finding, step) = search.next(event);
        finding.iter().for_each(&mut note);
        let question = match step {
            SearchStep::Ask(question) => question,
            SearchStep::Found(located) => {
                let last = named.as_ref().map_or(&first, |(_, client)| client);
                let (metadata, client) = with_limit(located.metadata, last)?;
                return Ok((Located { metadata, ..*located }, client));
            }
            SearchStep::Failed(failure) => return Err(failure),
        };
        let client = match &question.purpose {
            SearchPurpose::Issuer(issuer, Standing::Named) => {
                let same = named.take_if(|(other, _)| other == issuer);
                let begun = || (issuer.clone(), first.limited_to(first.reached()));
                &named.insert(same.unwrap_or_else(begun)).1
            }
            SearchPurpose::Issuer(..) => {
                named = None;
                &first
            }
            _ => &first,
        };
        event = answer(question, client, &left);
    }
}

/// Sends the request of a question, and follows as many redirects as the question allows. `left` is the time until the deadline.
fn answer(question: Question, client: &HttpClient, left: &impl Fn() -> Duration) -> SearchEvent {
    let limit = match question.purpose {
        SearchPurpose::EndOfSession => END_OF_SESSION_LIMIT.min(left() / 4),
        _ => Duration::MAX,
    };
    let send = |request: &Request| client.send(request, left().min(limit)).and_then(HttpOutcome::response);
    let mut requests: usize = 0;
    let answered = match question.redirects {
        0 => send(&question.request).map(|response| (response, None)),
        most => fetch(&question.request.url, most, |url| {
            requests = requests.saturating_add(1);
            send(&Request::get(url))
        }),
    };
    let requests = requests.max(1);
    match answered {
        Ok((response, stray)) => {
            let stray = stray.map(|stray| (stray.what, stray.target));
            SearchEvent::Answered { question, response, requests, stray }
        }
        Err(failure) => SearchEvent::NotAnswered { question, requests, failure },
    }
}

/// The metadata, and the client for what it names: no address that fewer places can reach than the addresses that `client` has
/// reached. Fails if the text of an endpoint shows such an address: some endpoints are not used before the login has ended.
fn with_limit(metadata: Metadata, client: &HttpClient) -> Result<(Metadata, HttpClient), Failure> {
    let limit = client.reached();
    for url in metadata.endpoints.all() {
        let reach = address_of(url).map_or(Reach::Public, |address| Reach::of_host(&address.host));
        if reach > limit {
            return Err(refusal(url, reach, limit).hint(without_metadata(None)));
        }
    }
    Ok((metadata, client.limited_to(limit)))
}
