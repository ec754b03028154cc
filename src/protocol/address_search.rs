//! From an address to its authorization server: what the address is, decided without I/O. See "Login by address" in
//! `docs/design.md`.
//!
//! An address may be a protected resource (RFC 9728), an issuer (RFC 8414, OpenID Connect Discovery), or a resource that is
//! older than RFC 9728 and whose origin is the issuer. A login sends the requests, and so does `onegrant doctor ADDRESS`.

use super::challenge::{self, Challenge};
use super::hints::{login_at, whole_shell_word};
use super::metadata::{
    self, Discovered, Metadata, candidates, endpoint_url, is_same_issuer, issuer_of_document, origin,
    with_https,
};
use super::redirect::MOST_REDIRECTS;
use super::resource::{self, FoundResource, ResourceMetadata, resource_url};
use super::{Request, Response};
use crate::error::{Failure, Kind};
use crate::text::printable;
use std::collections::VecDeque;

/// The most requests of a search.
pub const MOST_REQUESTS: usize = 7;

/// The most requests of a login with an address before the browser opens: the search, a registration, a pushed request. A second
/// registration is made only if one is left for it.
pub const MOST_REQUESTS_OF_A_LOGIN: usize = 9;

/// How many of the places of an issuer's metadata are asked if the address is a resource: the third one is for issuers alone.
const PLACES_AT_A_RESOURCE: usize = 2;

/// What a request of the search is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchPurpose {
    /// Whether a resource is there, and what it says about the token that it wants.
    Probe,
    /// The metadata of the resource.
    Resource,
    /// The metadata of this issuer.
    Issuer(String, Standing),
    /// The end of the session that the probe began.
    EndOfSession,
}

/// Why an address is asked for an issuer's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The resource names the issuer.
    Named,
    /// The address itself may be an issuer.
    Address,
    /// The origin of the address may be the issuer of a resource that has no metadata.
    Origin,
}

/// A request of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What it is for.
    pub purpose: SearchPurpose,
    /// The request. It has no credential.
    pub request: Request,
    /// How many redirects may be followed.
    pub redirects: usize,
}

impl Question {
    fn new(purpose: SearchPurpose, request: Request) -> Self {
        Self { purpose, request, redirects: 0 }
    }
}

/// What became of a question.
#[derive(Clone, Debug)]
pub enum SearchEvent {
    /// The search begins.
    Begun,
    /// The server answered.
    Answered {
        /// The question.
        question: Question,
        /// The last response.
        response: Response,
        /// How many requests were sent: redirects may have been followed.
        requests: usize,
        /// A redirect that was not followed, in words, and where it points, if that is an address.
        stray: Option<(String, Option<String>)>,
    },
    /// There was no response, or the request must not be sent.
    NotAnswered {
        /// The question.
        question: Question,
        /// How many requests were made: redirects may have been followed before.
        requests: usize,
        /// Why.
        failure: Failure,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchStep {
    /// Send this request.
    Ask(Question),
    /// The search is over.
    Found(Box<Located>),
    /// It is over, and has found nothing that can be used.
    Failed(Failure),
}

/// What an address turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// The authorization server.
    pub metadata: Metadata,
    /// The resource, unless the address is that of an issuer.
    pub resource: Option<LocatedResource>,
    /// How many requests the search took.
    pub requests: usize,
}

/// A resource, as far as a login needs to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocatedResource {
    /// Its identifier, as its metadata writes it; without metadata: the address.
    pub identifier: String,
    /// The address of its metadata.
    pub metadata_url: Option<String>,
    /// The scope that it demands in its challenge (RFC 6750 section 3).
    pub challenge_scope: Option<String>,
    /// The scopes that its metadata lists.
    pub scopes_supported: Vec<String>,
}

/// One request and its answer, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What the request was for.
    pub purpose: SearchPurpose,
    /// The request: method and address.
    pub request: String,
    /// What the server answered.
    pub answer: String,
    /// Whether the server did not answer, or answered that it cannot do so now (429, 5xx).
    pub is_unavailable: bool,
    /// Where the server departs from a standard.
    pub departures: Vec<Departure>,
}

/// Where a server departs from a standard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The standard and what it says otherwise.
    pub what: String,
    /// Whether a login fails, or gets less, because of it.
    pub matters: bool,
}

impl Departure {
    fn harmless(what: impl Into<String>) -> Self {
        Self { what: what.into(), matters: false }
    }

    fn harmful(what: impl Into<String>) -> Self {
        Self { what: what.into(), matters: true }
    }
}

/// How far the search has come. Each phase has its questions in [`Search::questions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Probe,
    Resource,
    /// The issuers that the resource names.
    Issuers,
    /// The address as an issuer, then its origin.
    AddressAsIssuer,
    End,
}

/// A search.
#[derive(Clone, Debug)]
pub struct Search {
    address: String,
    phase: Phase,
    questions: VecDeque<Question>,
    requests: usize,
    challenge: Option<Challenge>,
    /// The answer to the probe, in words.
    said: String,
    /// The answer to the probe is that of a resource.
    is_resource: bool,
    end_of_session: Option<Request>,
    resource: Option<(String, ResourceMetadata)>,
    metadata: Option<(Standing, Metadata)>,
    /// The address in the challenge has something, but no metadata.
    is_broken: bool,
    /// The first document that must not be used.
    refused: Option<Failure>,
    /// The first server that did not answer, or may answer otherwise later.
    trouble: Option<Failure>,
    /// Each address that was asked and had nothing, with the reason.
    places: Vec<String>,
    /// Where a redirect pointed that was not followed.
    elsewhere: Option<String>,
}

impl Search {
    /// The search from `address`. It fails if that is no address that a token may be sent to.
    pub fn new(address: &str) -> Result<Self, Failure> {
        resource_url(address).map_err(|failure| failure.hint_of(corrected(address).as_deref()))?;
        Ok(Self {
            address: address.to_owned(),
            phase: Phase::Probe,
            questions: VecDeque::from([Question::new(SearchPurpose::Probe, resource::probe(address))]),
            requests: 0,
            challenge: None,
            said: String::new(),
            is_resource: false,
            end_of_session: None,
            resource: None,
            metadata: None,
            is_broken: false,
            refused: None,
            trouble: None,
            places: Vec::new(),
            elsewhere: None,
        })
    }

    /// Takes what happened, says what it was, and what to do next.
    pub fn next(&mut self, event: SearchEvent) -> (Option<Finding>, SearchStep) {
        let finding = match event {
            SearchEvent::Begun => None,
            SearchEvent::Answered { question, response, requests, stray } => {
                self.requests = self.requests.saturating_add(requests);
                Some(self.answered(&question, &response, stray))
            }
            SearchEvent::NotAnswered { question, requests, failure } => {
                self.requests = self.requests.saturating_add(requests);
                Some(self.not_answered(&question, failure))
            }
        };
        loop {
            match self.questions.pop_front() {
                Some(question) if self.requests < MOST_REQUESTS => {
                    return (finding, SearchStep::Ask(self.with_redirects(question)));
                }
                Some(question) if question.purpose == SearchPurpose::EndOfSession => {}
                Some(question) => {
                    let url = printable(&question.request.url);
                    self.places.push(format!("{url} (not asked: {MOST_REQUESTS} requests are the most)"));
                }
                None if self.phase == Phase::End => return (finding, self.end()),
                None => self.go_on(),
            }
        }
    }

    /// Redirects are requests, too. Only a request for metadata follows them.
    fn with_redirects(&self, question: Question) -> Question {
        let left = MOST_REQUESTS.saturating_sub(self.requests).saturating_sub(1);
        let redirects = match &question.purpose {
            SearchPurpose::Probe | SearchPurpose::EndOfSession => 0,
            SearchPurpose::Resource | SearchPurpose::Issuer(..) => left.min(MOST_REDIRECTS),
        };
        Question { redirects, ..question }
    }

    /// Begins the next phase.
    fn go_on(&mut self) {
        let (phase, questions) = match self.phase {
            Phase::Probe => (Phase::Resource, self.resource_questions()),
            Phase::Resource if self.resource.is_some() => (Phase::Issuers, self.issuer_questions()),
            // The resource says that it has metadata, and has some that cannot be used: so it is no issuer.
            Phase::Resource if self.names_metadata() && (self.has_trouble() || self.is_broken) => {
                (Phase::End, Vec::new())
            }
            Phase::Resource => (Phase::AddressAsIssuer, self.address_questions()),
            Phase::Issuers | Phase::AddressAsIssuer | Phase::End => (Phase::End, Vec::new()),
        };
        self.phase = phase;
        self.questions.extend(questions);
        if self.phase == Phase::End {
            let request = self.end_of_session.take();
            self.questions.extend(request.map(|request| Question::new(SearchPurpose::EndOfSession, request)));
        }
    }

    fn resource_questions(&self) -> Vec<Question> {
        let named = self.metadata_of_challenge().ok().flatten();
        let others = resource::candidates(&self.address);
        let others = others.into_iter().filter(|url| Some(url) != named.as_ref());
        let question = |url: String| Question::new(SearchPurpose::Resource, Request::get(&url));
        named.clone().into_iter().chain(others).map(question).collect()
    }

    /// The address of the metadata in the challenge (RFC 9728 section 5.1), if it has the origin of the resource. Otherwise the
    /// reason why it is not used.
    fn metadata_of_challenge(&self) -> Result<Option<String>, String> {
        let named = self.challenge.as_ref().and_then(|challenge| challenge.get("resource_metadata"));
        let Some(url) = named else { return Ok(None) };
        match (endpoint_url(url), endpoint_url(&self.address)) {
            (Ok(there), Ok(here)) if there == here => Ok(Some(url.to_owned())),
            (Ok(_), _) => Err(format!("{} is of another origin", printable(url))),
            (Err(failure), _) => Err(failure.message),
        }
    }

    fn names_metadata(&self) -> bool {
        matches!(self.metadata_of_challenge(), Ok(Some(_)))
    }

    /// Whether there was a document that cannot be used, or may have been one.
    fn has_trouble(&self) -> bool {
        self.refused.is_some() || self.trouble.is_some()
    }

    fn issuer_questions(&self) -> Vec<Question> {
        let issuers = self.resource.iter().flat_map(|(_, resource)| &resource.authorization_servers);
        issuers.flat_map(|issuer| places_of(issuer, self.standing(issuer), usize::MAX)).collect()
    }

    /// Some issuers have resource metadata, too, which names themselves. If nothing answers like a resource at the address, then
    /// a person means the issuer.
    fn standing(&self, issuer: &str) -> Standing {
        match !self.is_resource && is_same_issuer(issuer, &self.address) {
            true => Standing::Address,
            false => Standing::Named,
        }
    }

    fn address_questions(&self) -> Vec<Question> {
        let most = if self.is_resource { PLACES_AT_A_RESOURCE } else { usize::MAX };
        let mut questions = places_of(&self.address, Standing::Address, most);
        // A resource with metadata that cannot be used is not older than RFC 9728.
        if let Some(origin) = origin(&self.address).ok().filter(|_| !self.has_trouble()) {
            let is_known =
                |question: &Question| questions.iter().any(|known| known.request.url == question.request.url);
            let at_origin = places_of(&origin, Standing::Origin, usize::MAX);
            let at_origin: Vec<Question> =
                at_origin.into_iter().filter(|question| !is_known(question)).collect();
            questions.extend(at_origin);
        }
        questions
    }

    fn answered(
        &mut self,
        question: &Question,
        response: &Response,
        stray: Option<(String, Option<String>)>,
    ) -> Finding {
        let url = question.request.url.clone();
        match &question.purpose {
            SearchPurpose::Probe => self.probed(question, response),
            SearchPurpose::EndOfSession => finding(question, response.status_words(None), false, Vec::new()),
            SearchPurpose::Resource => match resource::read(&self.address, &url, response) {
                FoundResource::Metadata(metadata) => {
                    let departures = metadata.departures.iter().map(Departure::harmless).collect();
                    let issuers = metadata.authorization_servers.join(", ");
                    let answer = format!("metadata of the resource {}, issuer {issuers}", metadata.resource);
                    self.resource = Some((url, *metadata));
                    // What the other places have does not matter any more.
                    (self.refused, self.trouble) = (None, None);
                    self.questions.clear();
                    finding(question, answer, false, departures)
                }
                FoundResource::Refused(failure) => {
                    // The other places are asked only where there is nothing.
                    self.questions.clear();
                    self.refuse(question, failure)
                }
                FoundResource::Nothing(why) => self.nothing(question, response, why, stray),
            },
            SearchPurpose::Issuer(issuer, standing) => match metadata::read(issuer, response) {
                Discovered::Metadata(metadata) => self.found(question, issuer, *standing, *metadata),
                Discovered::Refused(failure) => {
                    let hint = failure.hint.as_deref().and_then(|hint| self.of_resource(hint));
                    self.refuse(question, Failure { hint, ..failure })
                }
                Discovered::Nothing(why) => self.nothing(question, response, why, stray),
            },
        }
    }

    fn probed(&mut self, question: &Question, response: &Response) -> Finding {
        let mut departures = Vec::new();
        self.end_of_session = resource::end_of_session(&self.address, response);
        let words = response.status_words(None);
        self.said.clone_from(&words);
        if response.status != 401 {
            self.is_resource = response.is_success();
            return finding(question, words, false, departures);
        }
        self.challenge = challenge::bearer(&response.headers);
        self.is_resource = self.challenge.is_some();
        let Some(challenge) = &self.challenge else {
            departures.push(Departure::harmless(
                "RFC 9110 section 11.6.1, RFC 6750 section 3: a 401 without a challenge for a bearer token",
            ));
            return finding(question, words, false, departures);
        };
        match self.metadata_of_challenge() {
            Ok(Some(_)) => {}
            Ok(None) => departures.push(Departure::harmless(
                "RFC 9728 section 5.1: the challenge does not name the resource metadata",
            )),
            Err(why) => departures.push(Departure::harmful(format!(
                "RFC 9728 section 5.1: the resource metadata that the challenge names is not used: {why}"
            ))),
        }
        let scope = challenge.get("scope").map(|scope| format!(" with the scope {}", printable(scope)));
        let answer = format!("{words} and a challenge for a bearer token{}", scope.unwrap_or_default());
        finding(question, answer, false, departures)
    }

    /// Metadata of an issuer. The search for a named issuer ends with the first; that for the address goes on as long as another
    /// document may name further endpoints.
    fn found(&mut self, question: &Question, issuer: &str, standing: Standing, found: Metadata) -> Finding {
        let departures =
            departures_of(issuer, &found, self.resource.is_some() || standing == Standing::Origin);
        let metadata = match self.metadata.take() {
            Some((_, known)) => known.completed_by(found),
            None => found,
        };
        let answer = format!("metadata of the issuer {}", printable(&metadata.issuer));
        match standing == Standing::Address && !metadata.is_complete() {
            true => self.questions.retain(|other| other.purpose == question.purpose),
            false => self.questions.clear(),
        }
        self.metadata = Some((standing, metadata));
        finding(question, answer, false, departures)
    }

    /// The hint to log in at a server that this search did not find, as a login for the same resource. The person decides
    /// whether that server is trusted. `None` if the resource is too long for a hint.
    fn of_resource(&self, hint: &str) -> Option<String> {
        let Some((_, metadata)) = &self.resource else { return Some(hint.to_owned()) };
        let (command, comment) = hint
            .find("   # ")
            .map_or((hint, "   # only if you trust this server"), |start| hint.split_at(start));
        Some(format!("{command} --resource {}{comment}", whole_shell_word(&metadata.resource)?))
    }

    fn refuse(&mut self, question: &Question, failure: Failure) -> Finding {
        let departure = Departure::harmful(failure.message.clone());
        if self.metadata.is_none() {
            self.refused.get_or_insert(failure);
        }
        finding(question, "a document that is not used".to_owned(), false, vec![departure])
    }

    fn nothing(
        &mut self,
        question: &Question,
        response: &Response,
        why: String,
        stray: Option<(String, Option<String>)>,
    ) -> Finding {
        let url = printable(&question.request.url);
        let is_named =
            self.metadata_of_challenge().is_ok_and(|named| named.as_ref() == Some(&question.request.url));
        // Some gateways answer 502 for every path that they do not know. The resource knows the path in its challenge.
        let is_unknown_path =
            question.purpose == SearchPurpose::Resource && response.status == 502 && !is_named;
        let is_temporary = matches!(response.status, 429 | 500..) && !is_unknown_path;
        self.is_broken |= is_named && matches!(response.status, 200..400);
        let (why, target) = stray.unwrap_or((why, None));
        self.elsewhere = self.elsewhere.take().or(target);
        if is_temporary {
            let message = format!("{url} answered with {why}");
            self.trouble.get_or_insert(Failure::new(Kind::Temporary, message));
        }
        self.places.push(format!("{url} ({why})"));
        finding(question, why, is_temporary, Vec::new())
    }

    fn not_answered(&mut self, question: &Question, failure: Failure) -> Finding {
        let answer = failure.message.clone();
        let url = &question.request.url;
        let message = match *url == self.address || failure.message.contains(url.as_str()) {
            true => failure.message,
            false => format!("{}: {}", printable(url), failure.message),
        };
        let failure = Failure { message, ..failure };
        match &question.purpose {
            SearchPurpose::EndOfSession => {}
            // Another issuer that the resource names may do.
            SearchPurpose::Issuer(..) if self.phase == Phase::Issuers => {
                self.places.push(format!("{} ({answer})", printable(url)));
                self.keep(failure);
            }
            // The same server does not answer other requests either.
            _ => {
                self.keep(failure);
                self.questions.clear();
                self.phase = Phase::End;
            }
        }
        finding(question, answer, true, Vec::new())
    }

    fn keep(&mut self, failure: Failure) {
        match failure.kind {
            Kind::Usage => self.refused.get_or_insert(failure),
            _ => self.trouble.get_or_insert(failure),
        };
    }

    fn end(&mut self) -> SearchStep {
        let challenge_scope =
            self.challenge.as_ref().and_then(|challenge| challenge.get("scope")).map(str::to_owned);
        match (self.metadata.take(), self.resource.take()) {
            (Some((standing, metadata)), resource) => {
                let resource = match (standing, resource) {
                    (Standing::Address, _) | (Standing::Named, None) => None,
                    (Standing::Origin, _) => Some(LocatedResource {
                        identifier: self.address.clone(),
                        challenge_scope,
                        ..LocatedResource::default()
                    }),
                    (Standing::Named, Some((url, resource))) => Some(LocatedResource {
                        identifier: resource.resource,
                        metadata_url: Some(url),
                        challenge_scope,
                        scopes_supported: resource.scopes_supported,
                    }),
                };
                SearchStep::Found(Box::new(Located { metadata, resource, requests: self.requests }))
            }
            (None, _) => SearchStep::Failed(self.failure()),
        }
    }

    fn failure(&mut self) -> Failure {
        let what = format!("cannot find the authorization server of {}", printable(&self.address));
        if let Some(failure) = self.refused.take().or(self.trouble.take()) {
            let endpoints =
                (failure.kind == Kind::Usage).then(|| metadata::without_metadata(self.elsewhere.as_deref()));
            let (message, hint) = (format!("{what}: {}", failure.message), failure.hint.or(endpoints));
            return Failure { message, kind: failure.kind, hint };
        }
        let message = format!("{what}: {}, and no metadata at {}", self.said, self.places.join(", "));
        Failure::new(Kind::Usage, message).hint(metadata::without_metadata(self.elsewhere.as_deref()))
    }
}

/// The questions for the metadata of an issuer, at most `most` of them. An issuer that is itself the address of a metadata
/// document is asked there. An address that can be no issuer has none.
fn places_of(issuer: &str, standing: Standing, most: usize) -> Vec<Question> {
    let document = issuer_of_document(issuer);
    let named = document.as_deref().unwrap_or(issuer);
    let others = candidates(named).unwrap_or_default();
    let first = document.as_ref().map(|_| issuer.to_owned());
    let others = others.into_iter().filter(|url| Some(url) != first.as_ref());
    let question =
        |url: String| Question::new(SearchPurpose::Issuer(named.to_owned(), standing), Request::get(&url));
    first.clone().into_iter().chain(others).take(most).map(question).collect()
}

/// The login at the address without its fragment and with `https`, if that makes it an address that can be used.
fn corrected(address: &str) -> Option<String> {
    let corrected = with_https(address.split('#').next()?);
    resource_url(&corrected).is_ok().then(|| login_at(&corrected))
}

fn finding(question: &Question, answer: String, is_unavailable: bool, departures: Vec<Departure>) -> Finding {
    let request = format!("{} {}", question.request.method.as_str(), printable(&question.request.url));
    Finding {
        purpose: question.purpose.clone(),
        request,
        answer: printable(&answer),
        is_unavailable,
        departures,
    }
}

/// Where usable metadata of an issuer departs from the standards.
fn departures_of(issuer: &str, metadata: &Metadata, is_for_resource: bool) -> Vec<Departure> {
    let mut departures = Vec::new();
    if metadata.issuer != issuer {
        departures.push(Departure::harmless(format!(
            "RFC 8414 section 3.3: the issuer is written {}",
            printable(&metadata.issuer)
        )));
    }
    if metadata.refuses_s256() {
        departures.push(Departure::harmful("RFC 7636 section 4.2: it does not list the method S256 of PKCE"));
    }
    if metadata.code_challenge_methods_supported.is_empty()
        && is_for_resource
        && metadata.endpoints.authorization.is_some()
    {
        departures.push(Departure::harmless("RFC 8414 section 2: it lists no methods of PKCE"));
    }
    departures
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "https://r.example/mcp";
    const INSERTED: &str = "https://r.example/.well-known/oauth-protected-resource/mcp";
    const ROOT: &str = "https://r.example/.well-known/oauth-protected-resource";
    const ISSUER: &str = "https://as.example/.well-known/oauth-authorization-server";
    const ISSUER_OPENID: &str = "https://as.example/.well-known/openid-configuration";

    /// How a search ended: the questions, and what was found.
    struct Run {
        asked: Vec<String>,
        findings: Vec<Finding>,
        outcome: Result<Located, Failure>,
    }

    impl Run {
        fn departures(&self) -> Vec<(&str, bool)> {
            let departures = self.findings.iter().flat_map(|finding| &finding.departures);
            departures.map(|departure| (departure.what.as_str(), departure.matters)).collect()
        }

        fn failure(&self) -> (Kind, &str) {
            self.outcome
                .as_ref()
                .map_or_else(|failure| (failure.kind, failure.message.as_str()), |_| panic!())
        }
    }

    /// An address, the status and the body of its answer. A status of 0 is no answer.
    type Answer<'a> = (&'a str, u16, &'a str);

    /// Searches among these answers. Nothing else is there.
    fn search(address: &str, probe: Response, answers: &[Answer]) -> Run {
        let mut search = Search::new(address).unwrap();
        let mut run = Run { asked: Vec::new(), findings: Vec::new(), outcome: Ok(Located::default()) };
        let mut event = SearchEvent::Begun;
        loop {
            let (finding, step) = search.next(event);
            run.findings.extend(finding);
            let question = match step {
                SearchStep::Ask(question) => question,
                SearchStep::Found(located) => return Run { outcome: Ok(*located), ..run },
                SearchStep::Failed(failure) => return Run { outcome: Err(failure), ..run },
            };
            run.asked.push(question.request.url.clone());
            let answer = answers.iter().find(|(url, ..)| *url == question.request.url);
            event = match (&question.purpose, answer) {
                (SearchPurpose::Probe, _) => answered(question, probe.clone()),
                (_, Some((_, 0, why))) => {
                    let failure = Failure::new(Kind::Temporary, *why);
                    SearchEvent::NotAnswered { question, requests: 1, failure }
                }
                (_, Some((_, status, body))) => answered(question, Response::new(*status, *body)),
                (_, None) => answered(question, Response::new(404, "")),
            };
        }
    }

    fn answered(question: Question, response: Response) -> SearchEvent {
        SearchEvent::Answered { question, response, requests: 1, stray: None }
    }

    fn challenge(parameters: &str) -> Response {
        Response::new(401, "").with_header("www-authenticate", &format!("Bearer {parameters}"))
    }

    fn naming(url: &str) -> Response {
        challenge(&format!("scope=\"read\", resource_metadata=\"{url}\""))
    }

    const RESOURCE: &str =
        r#"{"resource":"https://r.example/mcp","authorization_servers":["https://as.example"]}"#;

    /// Metadata of an issuer that has each endpoint that another document could name.
    fn issuer(issuer: &str) -> String {
        format!(
            r#"{{"issuer":"{issuer}","token_endpoint":"{issuer}/token","authorization_endpoint":"{issuer}/authorize",
                "revocation_endpoint":"{issuer}/revoke","userinfo_endpoint":"{issuer}/me",
                "code_challenge_methods_supported":["S256"]}}"#
        )
    }

    /// RFC 9728 section 5, RFC 8414 section 3.
    #[test]
    fn the_places_are_asked_in_the_order_of_the_standards() {
        let (named, own) = (issuer("https://as.example"), issuer("https://r.example"));
        let other = "https://r.example/about";
        let own_issuer = "https://r.example/.well-known/oauth-authorization-server";
        let at_path = [
            "https://r.example/.well-known/oauth-authorization-server/mcp",
            "https://r.example/mcp/.well-known/openid-configuration",
        ];
        // (case, answer to the probe, answers, the questions behind the probe)
        let cases: Vec<(&str, Response, Vec<Answer>, Vec<&str>)> = vec![
            (
                "the challenge",
                naming(other),
                vec![(other, 200, RESOURCE), (ISSUER, 200, &named)],
                vec![other, ISSUER],
            ),
            (
                "well-known",
                challenge("x=y"),
                vec![(INSERTED, 200, RESOURCE), (ISSUER, 200, &named)],
                vec![INSERTED, ISSUER],
            ),
            (
                "root",
                Response::new(404, ""),
                vec![(ROOT, 200, RESOURCE), (ISSUER, 200, &named)],
                vec![INSERTED, ROOT, ISSUER],
            ),
            (
                "named in vain",
                naming(other),
                vec![(ROOT, 200, RESOURCE), (ISSUER, 200, &named)],
                vec![other, INSERTED, ROOT, ISSUER],
            ),
            (
                "another origin",
                naming("https://evil.example/about"),
                vec![(INSERTED, 200, RESOURCE), (ISSUER, 200, &named)],
                vec![INSERTED, ISSUER],
            ),
            (
                "the second place of the issuer",
                naming(INSERTED),
                vec![(INSERTED, 200, RESOURCE), (ISSUER_OPENID, 200, &named)],
                vec![INSERTED, ISSUER, ISSUER_OPENID],
            ),
            (
                "the origin",
                challenge("x=y"),
                vec![(own_issuer, 200, &own)],
                vec![INSERTED, ROOT, at_path[0], at_path[1], own_issuer],
            ),
        ];
        for (case, probe, answers, questions) in cases {
            let run = search(ADDRESS, probe, &answers);
            assert_eq!(run.asked, [&[ADDRESS], &questions[..]].concat(), "{case}");
            let located = run.outcome.unwrap();
            assert_eq!(located.requests, run.asked.len(), "{case}");
            assert_eq!(located.resource.unwrap().identifier, ADDRESS, "{case}");
        }
    }

    #[test]
    fn a_search_makes_no_more_requests_than_its_bound() {
        let entries: Vec<String> = (0..9).map(|number| format!("\"https://as{number}.example/t\"")).collect();
        let resource =
            format!(r#"{{"resource":"{ADDRESS}","authorization_servers":[{}]}}"#, entries.join(","));
        let begun = Response::new(200, "").with_header("mcp-session-id", "s");
        let run = search(ADDRESS, begun, &[(ROOT, 200, &resource)]);
        assert_eq!(run.asked.len(), MOST_REQUESTS);
        let (kind, message) = run.failure();
        assert_eq!(kind, Kind::Usage);
        for number in 1..4 {
            let place = format!(
                "https://as{number}.example/t/.well-known/openid-configuration (not asked: 7 requests are the most)"
            );
            assert!(message.contains(&place), "{place} in {message}");
        }
        assert!(!message.contains("as4"), "{message}");
    }

    /// The number of redirects is what the bound leaves, and they count.
    #[test]
    fn redirects_count_as_requests() {
        let mut search = Search::new(ADDRESS).unwrap();
        let (_, step) = search.next(SearchEvent::Begun);
        let SearchStep::Ask(mut question) = step else { panic!("{step:?}") };
        assert_eq!(question.redirects, 0);
        let mut sent = 0;
        let mut allowed = Vec::new();
        loop {
            let requests = question.redirects + 1;
            sent += requests;
            let event =
                SearchEvent::Answered { question, response: Response::new(404, ""), requests, stray: None };
            match search.next(event).1 {
                SearchStep::Ask(next) => question = next,
                SearchStep::Failed(_) => break,
                step => panic!("{step:?}"),
            }
            allowed.push(question.redirects);
        }
        assert!(sent <= MOST_REQUESTS, "{sent}");
        assert_eq!(allowed.first(), Some(&MOST_REDIRECTS.min(MOST_REQUESTS - 2)));
    }

    /// Also those that end in no answer.
    #[test]
    fn the_redirects_before_a_lost_answer_count_as_requests() {
        let entries: Vec<String> = (0..4).map(|number| format!("\"https://as{number}.example\"")).collect();
        let resource =
            format!(r#"{{"resource":"{ADDRESS}","authorization_servers":[{}]}}"#, entries.join(","));
        let mut search = Search::new(ADDRESS).unwrap();
        let mut event = SearchEvent::Begun;
        let mut sent = 0;
        loop {
            let question = match search.next(event).1 {
                SearchStep::Ask(question) => question,
                SearchStep::Failed(_) => break,
                step => panic!("{step:?}"),
            };
            let requests = match question.purpose {
                SearchPurpose::Issuer(..) => question.redirects + 1,
                _ => 1,
            };
            sent += requests;
            event = match question.purpose {
                SearchPurpose::Probe => answered(question, naming(INSERTED)),
                SearchPurpose::Resource => answered(question, Response::new(200, resource.as_str())),
                _ => {
                    let failure = Failure::new(Kind::Temporary, "lost");
                    SearchEvent::NotAnswered { question, requests, failure }
                }
            };
        }
        assert_eq!(sent, MOST_REQUESTS);
    }

    #[test]
    #[rustfmt::skip]
    fn the_first_document_that_is_wrong_is_the_failure_else_the_first_server_that_may_be_well_later() {
        let wrong = r#"{"resource":"https://r.example/other","authorization_servers":["https://as.example"]}"#;
        let of_another = issuer("https://evil.example");
        let page = "<html>";
        // (case, answer to the probe, answers, kind, text)
        let cases: Vec<(&str, Response, Vec<Answer>, Kind, &str)> = vec![
            ("another resource", naming(INSERTED), vec![(INSERTED, 200, wrong)], Kind::Usage, "it is of the resource https://r.example/other"),
            ("another issuer", naming(INSERTED), vec![(INSERTED, 200, RESOURCE), (ISSUER, 200, &of_another)], Kind::Usage, "https://evil.example"),
            ("nothing", Response::new(404, ""), vec![], Kind::Usage, "no metadata at https://r.example/.well-known/oauth-protected-resource/mcp (status 404), "),
            ("a page where metadata is named", naming(INSERTED), vec![(INSERTED, 200, page)], Kind::Usage, "oauth-protected-resource/mcp (no JSON object), "),
            ("503 of the resource", challenge("x=y"), vec![(INSERTED, 503, "")], Kind::Temporary, "oauth-protected-resource/mcp answered with status 503"),
            ("502 where metadata is named", naming(INSERTED), vec![(INSERTED, 502, "")], Kind::Temporary, "answered with status 502"),
            ("502 at another place", challenge("x=y"), vec![(INSERTED, 502, "")], Kind::Usage, "no metadata at "),
            ("500 of the issuer", naming(INSERTED), vec![(INSERTED, 200, RESOURCE), (ISSUER, 500, "")], Kind::Temporary, "answered with status 500"),
            ("429 of the issuer", naming(INSERTED), vec![(INSERTED, 200, RESOURCE), (ISSUER, 429, "")], Kind::Temporary, "answered with status 429"),
            ("no answer of the resource", naming(INSERTED), vec![(INSERTED, 0, "lost")], Kind::Temporary, "oauth-protected-resource/mcp: lost"),
            ("no answer of the issuer", naming(INSERTED), vec![(INSERTED, 200, RESOURCE), (ISSUER, 0, "lost")], Kind::Temporary, "oauth-authorization-server: lost"),
            ("wrong, then no answer", naming(INSERTED), vec![(INSERTED, 200, RESOURCE), (ISSUER, 200, &of_another), (ISSUER_OPENID, 0, "lost")], Kind::Usage, "https://evil.example"),
        ];
        for (case, probe, answers, kind, text) in cases {
            let run = search(ADDRESS, probe, &answers);
            let (found, message) = run.failure();
            assert_eq!(found, kind, "{case}: {message}");
            assert!(message.starts_with("cannot find the authorization server of https://r.example/mcp: "), "{case}: {message}");
            assert!(message.contains(text), "{case}: {message}");
            assert_eq!(run.outcome.unwrap_err().hint.is_some(), kind == Kind::Usage, "{case}");
        }
    }

    /// Only the query may be longer than what a person typed: see [`resource::covers`].
    #[test]
    fn a_hint_has_the_whole_resource_or_nothing_of_it() {
        let of_another = issuer("https://evil.example");
        for (length, has_resource) in [(100, true), (400, false)] {
            let identifier = format!("{ADDRESS}?{}", "x".repeat(length));
            let resource =
                format!(r#"{{"resource":"{identifier}","authorization_servers":["https://as.example"]}}"#);
            let answers = [(INSERTED, 200, resource.as_str()), (ISSUER, 200, &of_another)];
            let hint = search(ADDRESS, naming(INSERTED), &answers).outcome.unwrap_err().hint.unwrap();
            assert_eq!(hint.contains("xxx"), has_resource, "{hint}");
            assert_eq!(hint.contains("login https://evil.example --resource "), has_resource, "{hint}");
        }
    }

    #[test]
    fn another_issuer_does_if_the_first_one_does_not() {
        let resource = r#"{"resource":"https://r.example/mcp","authorization_servers":["https://dead.example","https://as.example"]}"#;
        let named = issuer("https://as.example");
        let of_another = issuer("https://evil.example");
        let dead = "https://dead.example/.well-known/oauth-authorization-server";
        for (status, body) in [(0, "lost"), (404, ""), (500, ""), (200, of_another.as_str()), (200, "<html>")]
        {
            let answers = [(INSERTED, 200, resource), (dead, status, body), (ISSUER, 200, &named)];
            let run = search(ADDRESS, naming(INSERTED), &answers);
            assert_eq!(run.outcome.unwrap().metadata.issuer, "https://as.example", "{status}");
        }
    }

    /// A resource may be its own issuer, or have been it before.
    #[test]
    fn another_issuer_does_if_the_address_itself_does_not() {
        let resource = format!(
            r#"{{"resource":"{ADDRESS}","authorization_servers":["{ADDRESS}","https://as.example"]}}"#
        );
        let named = issuer("https://as.example");
        let own = "https://r.example/.well-known/oauth-authorization-server/mcp";
        for (status, body) in [(0, "lost"), (404, ""), (500, "")] {
            let answers = [(INSERTED, 200, resource.as_str()), (own, status, body), (ISSUER, 200, &named)];
            let located = search(ADDRESS, Response::new(404, ""), &answers).outcome.unwrap();
            assert_eq!(located.metadata.issuer, "https://as.example", "{status}");
            assert_eq!(located.resource.unwrap().identifier, ADDRESS, "{status}");
        }
    }

    /// RFC 8414 section 2, OpenID Connect Discovery section 3: an issuer may have two documents, and one endpoint in each.
    #[test]
    fn the_search_at_an_issuer_goes_on_until_its_endpoints_are_known() {
        let half = r#"{"issuer":"https://as.example","token_endpoint":"https://as.example/token"}"#;
        let whole = issuer("https://as.example");
        let run = search(
            "https://as.example",
            Response::new(404, ""),
            &[(ISSUER, 200, half), (ISSUER_OPENID, 200, &whole)],
        );
        assert!(run.asked.ends_with(&[ISSUER.to_owned(), ISSUER_OPENID.to_owned()]), "{:?}", run.asked);
        let located = run.outcome.unwrap();
        assert_eq!(located.metadata.endpoints.revocation.as_deref(), Some("https://as.example/revoke"));
        assert_eq!(located.resource, None);
    }

    /// MCP, "Session Management". A server ends a session by itself, too: a search that has made its last request, or whose
    /// server does not answer, leaves that to it.
    #[test]
    fn the_session_of_the_probe_is_ended_if_a_request_is_left() {
        let begun = Response::new(200, "").with_header("mcp-session-id", "s");
        let named = issuer("https://as.example");
        let cases = [
            (&[(INSERTED, 200, RESOURCE), (ISSUER, 200, named.as_str())][..], 1),
            (&[(INSERTED, 200, RESOURCE), (ISSUER, 0, "lost")], 1),
            (&[(INSERTED, 0, "lost")], 0),
            (&[], 0),
        ];
        for (answers, wanted) in cases {
            let run = search(ADDRESS, begun.clone(), answers);
            let ends = run.findings.iter().filter(|finding| finding.purpose == SearchPurpose::EndOfSession);
            assert_eq!(ends.count(), wanted, "{:?}", run.asked);
            assert!(run.asked.len() <= MOST_REQUESTS, "{:?}", run.asked);
        }
    }

    #[test]
    fn departures_are_named_and_matter_if_the_login_gets_less() {
        let plain = issuer("https://as.example").replace("S256", "plain");
        let none = issuer("https://as.example")
            .replace(r#""code_challenge_methods_supported":["S256"]"#, r#""x":1"#);
        let slash = issuer("https://as.example").replacen("https://as.example", "https://as.example/", 1);
        let named = issuer("https://as.example");
        let no_challenge =
            "RFC 9110 section 11.6.1, RFC 6750 section 3: a 401 without a challenge for a bearer token";
        let silent = "RFC 9728 section 5.1: the challenge does not name the resource metadata";
        let elsewhere = "RFC 9728 section 5.1: the resource metadata that the challenge names is not used: \
                         https://evil.example/x is of another origin";
        let insecure = "RFC 9728 section 5.1: the resource metadata that the challenge names is not used: cannot use \
                        http://r.example/x: plain http is for loopback addresses only; use https";
        let cases = [
            (naming(INSERTED), named.as_str(), None),
            (Response::new(404, ""), &named, None),
            (Response::new(401, ""), &named, Some((no_challenge, false))),
            (challenge("realm=x"), &named, Some((silent, false))),
            (naming("https://evil.example/x"), &named, Some((elsewhere, true))),
            (naming("http://r.example/x"), &named, Some((insecure, true))),
            (
                naming(INSERTED),
                &slash,
                Some(("RFC 8414 section 3.3: the issuer is written https://as.example/", false)),
            ),
            (naming(INSERTED), &none, Some(("RFC 8414 section 2: it lists no methods of PKCE", false))),
            (
                naming(INSERTED),
                &plain,
                Some(("RFC 7636 section 4.2: it does not list the method S256 of PKCE", true)),
            ),
        ];
        for (probe, metadata, departure) in cases {
            let run = search(ADDRESS, probe, &[(INSERTED, 200, RESOURCE), (ISSUER, 200, metadata)]);
            assert!(run.outcome.is_ok(), "{departure:?}");
            assert_eq!(run.departures(), departure.into_iter().collect::<Vec<_>>());
        }
    }
}
