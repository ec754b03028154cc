//! AssumeRoleWithWebIdentity of the AWS Security Token Service: an ID token is exchanged for credentials of a role. The request
//! is not signed, because the ID token authenticates it.
//!
//! Defined by "AssumeRoleWithWebIdentity" and "Common Errors" in the reference of the service, version [`VERSION`]. Amazon's
//! servers answer in JSON if the request accepts it. Other servers of the protocol answer in XML.

use super::claims::numeric_date;
use super::redirect;
use super::{Parameters, Request, Response};
use crate::error::{Failure, Kind};
use crate::grant::{Secret, UnixSeconds, is_visible_ascii};
use crate::text::quoted;
use serde_json::Value;
use std::time::Duration;

/// The version of the protocol.
const VERSION: &str = "2011-06-15";

/// The deepest nesting in which a member of an answer is looked for. Answers have three levels.
const DEPTH: u32 = 5;

/// The hint about an identity provider or a trust policy in IAM. `status` shows issuer and audience.
const COMPARE: &str = "onegrant status   # issuer and audience of the ID token: the identity provider in IAM and the trust \
                       policy of the role must name them";

/// Which role is assumed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The address of the service.
    pub endpoint: String,
    /// The Amazon Resource Name of the role.
    pub arn: String,
    /// The name by which the session appears in logs.
    pub session_name: String,
    /// How long the credentials are wanted for, in seconds. `None`: the server decides.
    pub duration_seconds: Option<u64>,
}

/// The credentials of one session of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `AccessKeyId`
    pub access_key_id: Secret,
    /// `SecretAccessKey`
    pub secret_access_key: Secret,
    /// `SessionToken`
    pub session_token: Secret,
    /// `Expiration`
    pub expires_at: UnixSeconds,
}

/// What the service answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The credentials.
    Credentials(Credentials),
    /// `ExpiredTokenException`: by the clock of the service the ID token has expired. Another ID token may be accepted.
    TokenExpired(Failure),
    /// The same request may succeed after this pause, if the service names one.
    Later(Failure, Option<Duration>),
    /// Another request of this kind fails in the same way.
    Refused(Failure),
}

/// What the caller can do about an error code.
enum Remedy {
    /// Another ID token.
    OtherToken,
    /// The same request once more, after a pause.
    Again,
    /// A login.
    Login,
    /// A change at AWS or of the command line: the hint.
    Change(String),
}

/// The request for credentials of this role.
pub fn request(role: &Role, id_token: &Secret) -> Request {
    let mut parameters = Parameters::default();
    parameters.push("Action", "AssumeRoleWithWebIdentity");
    parameters.push("Version", VERSION);
    parameters.push("RoleArn", &role.arn);
    parameters.push("RoleSessionName", &role.session_name);
    parameters.push_secret("WebIdentityToken", id_token);
    if let Some(seconds) = role.duration_seconds {
        parameters.push("DurationSeconds", &seconds.to_string());
    }
    Request::form(&role.endpoint, parameters)
}

/// Reads the response to `request`. A `Retry-After` date is compared with `now`.
pub fn read(role: &Role, request: &Request, response: &Response, now: UnixSeconds) -> Answer {
    let text = String::from_utf8_lossy(&response.body);
    let json: Option<Value> = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok();
    let body = json.as_ref().map_or(Part::Xml(&text), Part::Json);
    if response.is_success() {
        return match body.part("Credentials").and_then(Part::credentials) {
            Some(credentials) => Answer::Credentials(credentials),
            None => Answer::Refused(Failure::new(
                Kind::Temporary,
                "no credentials from AWS STS: the answer is not one of AssumeRoleWithWebIdentity",
            )),
        };
    }
    if let Some(what) = redirect::unfollowed(request, response) {
        let kind = if matches!(response.status, 301 | 308) { Kind::Usage } else { Kind::Temporary };
        return Answer::Refused(Failure::new(kind, format!("no credentials from AWS STS: {what}")));
    }
    let error = body.part("Error").unwrap_or(body);
    let code = error.text("Code").unwrap_or_default();
    let words = match (code.is_empty(), error.text("Message")) {
        (true, _) => response.first_text().unwrap_or_default(),
        (false, None) => code.clone(),
        (false, Some(message)) => format!("{code}: {message}"),
    };
    let status = response.status_words(None);
    let said = request.shown(&words);
    let said = if said.is_empty() { status } else { format!("{status}: {said}") };
    let failure = |kind| Failure::new(kind, format!("no credentials from AWS STS: {said}"));
    match remedy(&code, response.status, role) {
        Remedy::OtherToken => Answer::TokenExpired(failure(Kind::LoginRequired).hint("onegrant login")),
        Remedy::Login => Answer::Refused(failure(Kind::LoginRequired).hint("onegrant login")),
        Remedy::Again => Answer::Later(failure(Kind::Temporary).hint("try again"), response.wait(now)),
        Remedy::Change(hint) => Answer::Refused(failure(Kind::Usage).hint(hint)),
    }
}

/// The names of some errors end with `Exception` at one service and do not at another.
fn remedy(code: &str, status: u16, role: &Role) -> Remedy {
    match code.strip_suffix("Exception").unwrap_or(code) {
        "ExpiredToken" => Remedy::OtherToken,
        "IDPRejectedClaim" => Remedy::Login,
        // AWS could not fetch the keys of the issuer.
        "IDPCommunicationError" => Remedy::Again,
        "Throttling" | "RequestLimitExceeded" | "TooManyRequests" => Remedy::Again,
        "InvalidIdentityToken" | "AccessDenied" => Remedy::Change(COMPARE.to_owned()),
        "RegionDisabled" => Remedy::Change(format!(
            "onegrant helper aws --role-arn {} --region REGION   # one that the account has activated",
            quoted(&role.arn)
        )),
        _ if status == 429 || status >= 500 => Remedy::Again,
        _ => Remedy::Change("onegrant helper --help".to_owned()),
    }
}

/// Reads the members of credentials.
pub fn credentials(value: &Value) -> Option<Credentials> {
    Part::Json(value).credentials()
}

/// A part of an answer.
#[derive(Clone, Copy)]
enum Part<'a> {
    Json(&'a Value),
    /// The text between two tags.
    Xml(&'a str),
}

impl<'a> Part<'a> {
    /// The first part of this name, at any depth.
    fn part(self, name: &str) -> Option<Self> {
        match self {
            Self::Json(value) => member(value, name, DEPTH).map(Self::Json),
            Self::Xml(text) => element(text, name).map(Self::Xml),
        }
    }

    /// The text of the part of this name. Not fit to be shown.
    fn text(self, name: &str) -> Option<String> {
        match self.part(name)? {
            Self::Json(value) => value.as_str().map(str::to_owned),
            Self::Xml(text) => (!text.contains('<')).then(|| unescaped(text.trim())),
        }
    }

    fn credentials(self) -> Option<Credentials> {
        let is_word = |text: &String| is_visible_ascii(text) && !text.contains(' ');
        let secret = |name: &str| self.text(name).filter(is_word).map(Secret::new);
        Some(Credentials {
            access_key_id: secret("AccessKeyId")?,
            secret_access_key: secret("SecretAccessKey")?,
            session_token: secret("SessionToken")?,
            expires_at: self.instant("Expiration")?,
        })
    }

    /// The instant of the part of this name: seconds since the Unix epoch, or a date.
    fn instant(self, name: &str) -> Option<UnixSeconds> {
        match self.part(name)? {
            Self::Json(value @ Value::Number(_)) => numeric_date(value),
            _ => instant(&self.text(name)?),
        }
    }
}

fn member<'a>(value: &'a Value, name: &str, depth: u32) -> Option<&'a Value> {
    let members = value.as_object()?;
    let deeper = || members.values().find_map(|inner| member(inner, name, depth.checked_sub(1)?));
    members.get(name).or_else(deeper)
}

/// The text of the first element of this name, which has no element of the same name inside (Extensible Markup Language 1.0
/// section 3.1).
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// The text without the entities that every document has (Extensible Markup Language 1.0 section 4.6).
fn unescaped(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

/// The seconds since the Unix epoch of a date and time (RFC 3339 section 5.6). A fraction of a second is left out.
fn instant(text: &str) -> Option<UnixSeconds> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let offset_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, offset) = rest.split_at_checked(offset_at)?;
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let is_valid = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    let offset = match offset {
        "Z" | "z" => 0,
        offset => {
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let minutes = digits(hours)? * 60 + digits(minutes)?;
            if offset.starts_with('-') { -minutes } else { minutes }
        }
    };
    if !is_valid {
        return None;
    }
    // Count years from March, so that the leap day is the last day of a year (proleptic Gregorian calendar).
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second - offset * 60)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(digits);
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

/// A number of at most four digits.
fn digits(text: &str) -> Option<i64> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::form;

    fn role() -> Role {
        Role {
            endpoint: "https://sts.eu-central-1.amazonaws.com/".to_owned(),
            arn: "arn:aws:iam::123456789012:role/Deploy".to_owned(),
            session_name: "onegrant".to_owned(),
            duration_seconds: Some(900),
        }
    }

    fn answer(status: u16, body: &str) -> Answer {
        let request = request(&role(), &Secret::new("id-t0ken"));
        read(&role(), &request, &Response::new(status, body), 0)
    }

    #[test]
    fn a_request_is_a_form_without_a_signature() {
        let request = request(&role(), &Secret::new("id-t0ken"));
        assert_eq!(request.url, "https://sts.eu-central-1.amazonaws.com/");
        assert_eq!(request.headers.get("authorization"), None);
        assert_eq!(
            form(&request).encode().expose(),
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15\
             &RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2FDeploy&RoleSessionName=onegrant\
             &WebIdentityToken=id-t0ken&DurationSeconds=900"
        );
        assert_eq!(request.shown("the token id-t0ken"), "the token [secret]");
    }

    #[test]
    fn credentials_are_read_from_json_and_from_xml() {
        let json = |expiration: &str| {
            format!(
                r#"{{"AssumeRoleWithWebIdentityResponse":{{"AssumeRoleWithWebIdentityResult":{{"AssumedRoleUser":
                {{"Arn":"a"}},"Credentials":{{"AccessKeyId":"ASIA","SecretAccessKey":"s/+","SessionToken":"t=",
                "Expiration":{expiration}}}}},"ResponseMetadata":{{"RequestId":"r"}}}}}}"#
            )
        };
        let xml = "<?xml version=\"1.0\"?>\n<AssumeRoleWithWebIdentityResponse \
                   xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult><Credentials>\n\
                   <SessionToken>t=</SessionToken> <SecretAccessKey>s/+</SecretAccessKey>\
                   <Expiration>2023-11-14T22:13:20Z</Expiration><AccessKeyId>ASIA</AccessKeyId></Credentials>\
                   </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
        let wanted = Answer::Credentials(Credentials {
            access_key_id: Secret::new("ASIA"),
            secret_access_key: Secret::new("s/+"),
            session_token: Secret::new("t="),
            expires_at: 1_700_000_000,
        });
        for body in [json("1.7E9"), json("1700000000"), json("\"2023-11-14T22:13:20Z\""), xml.to_owned()] {
            assert_eq!(answer(200, &body), wanted, "{body}");
        }
        assert!(!format!("{wanted:?}").contains("ASIA"));
    }

    #[test]
    fn an_answer_without_whole_credentials_is_temporary() {
        let member = |name: &str, value: &str| {
            format!(
                r#"{{"Credentials":{{"AccessKeyId":"a","SecretAccessKey":"s","SessionToken":"t","Expiration":1,{name:?}:{value}}}}}"#
            )
        };
        for body in [
            String::new(),
            "<html>Sign in".to_owned(),
            "{}".to_owned(),
            "[]".to_owned(),
            r#"{"Credentials":{"AccessKeyId":"a"}}"#.to_owned(),
            member("SessionToken", "null"),
            member("SecretAccessKey", "\"two words\""),
            member("AccessKeyId", "\"a\\nb\""),
            member("AccessKeyId", "\"\""),
            member("Expiration", "\"soon\""),
            "<Credentials><AccessKeyId>a<b></b></AccessKeyId></Credentials>".to_owned(),
            "<Credentials><AccessKeyId>a".to_owned(),
        ] {
            let Answer::Refused(failure) = answer(200, &body) else { panic!("{body}") };
            assert_eq!((failure.kind, failure.hint), (Kind::Temporary, None), "{body}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn each_error_has_its_exit_code_and_its_hint() {
        let cases = [
            (400, "ExpiredTokenException", "TokenExpired", Kind::LoginRequired, "onegrant login"),
            (400, "ExpiredToken",          "TokenExpired", Kind::LoginRequired, "onegrant login"),
            (403, "IDPRejectedClaim",      "Refused",      Kind::LoginRequired, "onegrant login"),
            (400, "InvalidIdentityToken",  "Refused",      Kind::Usage,         COMPARE),
            (403, "AccessDenied",          "Refused",      Kind::Usage,         COMPARE),
            (400, "IDPCommunicationError", "Later",        Kind::Temporary,     "try again"),
            (400, "Throttling",            "Later",        Kind::Temporary,     "try again"),
            (400, "ThrottlingException",   "Later",        Kind::Temporary,     "try again"),
            (503, "ServiceUnavailable",    "Later",        Kind::Temporary,     "try again"),
            (403, "RegionDisabledException", "Refused",    Kind::Usage,
                "onegrant helper aws --role-arn arn:aws:iam::123456789012:role/Deploy --region REGION   # one that the account has activated"),
            (400, "ValidationError",       "Refused",      Kind::Usage,         "onegrant helper --help"),
            (400, "PackedPolicyTooLarge",  "Refused",      Kind::Usage,         "onegrant helper --help"),
        ];
        for (status, code, variant, kind, hint) in cases {
            let json = format!(r#"{{"Error":{{"Code":"{code}","Message":"no & <id-t0ken>","Type":"Sender"}},"RequestId":"r"}}"#);
            let xml = format!("<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no &amp; &lt;id-t0ken&gt;</Message></Error></ErrorResponse>");
            for body in [json, xml] {
                let answer = answer(status, &body);
                assert!(format!("{answer:?}").starts_with(variant), "{body}: {answer:?}");
                let (Answer::TokenExpired(failure) | Answer::Later(failure, None) | Answer::Refused(failure)) = answer else { panic!() };
                let message = format!("no credentials from AWS STS: status {status}: {code}: no & <[secret]>");
                assert_eq!(failure, Failure::new(kind, message).hint(hint), "{body}");
            }
        }
    }

    #[test]
    fn an_answer_that_is_no_error_of_the_service_is_told_by_its_status() {
        let cases = [
            (500, "", "no credentials from AWS STS: status 500"),
            (502, "<html><title>Bad Gateway</title>", "no credentials from AWS STS: status 502: Bad Gateway"),
            (429, "slow down", "no credentials from AWS STS: status 429: slow down"),
        ];
        for (status, body, message) in cases {
            let wanted = Failure::new(Kind::Temporary, message).hint("try again");
            assert_eq!(answer(status, body), Answer::Later(wanted, None));
        }
        let request = request(&role(), &Secret::new("id-t0ken"));
        let busy = Response::new(503, "").with_header("Retry-After", "7");
        let Answer::Later(_, wait) = read(&role(), &request, &busy, 0) else { panic!() };
        assert_eq!(wait, Some(Duration::from_secs(7)));
        for (status, kind) in [(301, Kind::Usage), (302, Kind::Temporary), (308, Kind::Usage)] {
            let moved =
                Response::new(status, "").with_header("Location", "https://elsewhere.example/?t=id-t0ken");
            let Answer::Refused(failure) = read(&role(), &request, &moved, 0) else { panic!() };
            assert_eq!(failure.kind, kind);
            assert!(failure.message.contains("not followed") && !failure.message.contains("t0ken"));
        }
    }

    #[test]
    #[rustfmt::skip]
    fn instants_are_read_as_in_rfc_3339() {
        let cases = [
            ("1970-01-01T00:00:00Z",           Some(0)),
            ("2000-02-29T00:00:00z",           Some(951_782_400)),
            ("2000-03-01T00:00:00Z",           Some(951_868_800)),
            ("2023-11-14T22:13:20.999Z",       Some(1_700_000_000)),
            ("2023-11-14T23:43:20+01:30",      Some(1_700_000_000)),
            ("2023-11-14T20:13:20-02:00",      Some(1_700_000_000)),
            ("9999-12-31T23:59:59Z",           Some(253_402_300_799)),
            ("2023-13-14T22:13:20Z",           None),
            ("2023-11-14T24:13:20Z",           None),
            ("2023-11-14 22:13:20Z",           None),
            ("2023-11-14T22:13:20",            None),
            ("2023-11-14T22:13Z",              None),
            ("2023-11-14T22:13:20+é1",         None),
            ("99999999999-01-01T00:00:00Z",    None),
            ("--T::Z",                         None),
            ("",                               None),
        ];
        for (text, wanted) in cases {
            assert_eq!(instant(text), wanted, "{text}");
        }
    }
}
