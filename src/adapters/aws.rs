//! `credential_process` of the AWS command line and SDKs: no arguments of their own, one JSON object, version 1. The options say
//! which role is assumed, and at which server.

use super::formats::timestamp;
use crate::error::{Failure, Kind};
use crate::grant::is_visible_ascii;
use crate::protocol::metadata::endpoint_url;
use crate::protocol::sts::{Credentials, Role};
use serde_json::{Value, json};
use std::time::Duration;

/// The name by which a session appears in logs if no option says one.
const SESSION_NAME: &str = "onegrant";

/// The longest name of a session, in characters (AssumeRoleWithWebIdentity, `RoleSessionName`).
const SESSION_NAME_LIMIT: usize = 64;

/// The longest name of a role, in characters (AssumeRoleWithWebIdentity, `RoleArn`).
const ARN_LIMIT: usize = 2048;

/// The longest name of a region, in characters. A label of a host name has at most this many (RFC 1035 section 2.3.4).
const REGION_LIMIT: usize = 63;

/// The partitions of AWS: how the ARNs of each begin, its domain, and the region that answers if none is named. The service of
/// one region answers for the whole partition.
const PARTITIONS: [(&str, &str, &str); 4] = [
    ("arn:aws:", "amazonaws.com", "us-east-1"),
    ("arn:aws-cn:", "amazonaws.com.cn", "cn-north-1"),
    ("arn:aws-us-gov:", "amazonaws.com", "us-gov-west-1"),
    ("arn:aws-eusc:", "amazonaws.eu", "eusc-de-east-1"),
];

/// What the options of `onegrant helper aws` say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// `--role-arn`
    pub role_arn: Option<&'a str>,
    /// `--session-name`
    pub session_name: Option<&'a str>,
    /// `--duration`
    pub duration: Option<Duration>,
    /// `--region`
    pub region: Option<&'a str>,
    /// `--endpoint-url`
    pub endpoint_url: Option<&'a str>,
}

/// What the variables say that the AWS SDKs read, too.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// `AWS_REGION`, otherwise `AWS_DEFAULT_REGION`
    pub region: Option<String>,
    /// `AWS_ENDPOINT_URL_STS`
    pub endpoint_url: Option<String>,
}

/// The role that the options and the variables name. An option wins over its variable, and an address over a region.
pub fn role(options: &Options, variables: &Variables) -> Result<Role, Failure> {
    let arn = options.role_arn.unwrap_or_default();
    if !arn.starts_with("arn:") || arn.chars().count() > ARN_LIMIT || !is_visible_ascii(arn) {
        return Err(usage("--role-arn is not the Amazon Resource Name of a role"));
    }
    let session_name = options.session_name.unwrap_or(SESSION_NAME);
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || "_+=,.@-".contains(character);
    if !(2..=SESSION_NAME_LIMIT).contains(&session_name.len()) || !session_name.chars().all(is_allowed) {
        return Err(usage("--session-name is not 2 to 64 letters, digits or characters of _+=,.@-"));
    }
    Ok(Role {
        endpoint: endpoint(arn, options, variables)?,
        arn: arn.to_owned(),
        session_name: session_name.to_owned(),
        duration_seconds: options.duration.map(|duration| duration.as_secs()),
    })
}

fn endpoint(arn: &str, options: &Options, variables: &Variables) -> Result<String, Failure> {
    let option = options.endpoint_url.map(|url| ("--endpoint-url", url));
    let variable = variables.endpoint_url.as_deref().map(|url| ("AWS_ENDPOINT_URL_STS", url));
    if let Some((name, url)) = option.or(variable) {
        let checked = endpoint_url(url);
        checked.map_err(|failure| usage(&format!("{name}: {}", failure.message)))?;
        // The path of an address without one is a slash (RFC 9110 section 4.2.3).
        let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        return Ok(if has_path { url.to_owned() } else { format!("{url}/") });
    }
    let partition = PARTITIONS.iter().find(|(prefix, ..)| arn.starts_with(prefix));
    let Some((_, domain, region)) = partition else {
        return Err(usage("the partition of this role is not known: name the server with --endpoint-url"));
    };
    let region = options.region.or(variables.region.as_deref()).unwrap_or(region);
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match !region.is_empty() && region.len() <= REGION_LIMIT && region.bytes().all(is_allowed) {
        true => Ok(format!("https://sts.{region}.{domain}/")),
        false => Err(usage("the region is not a name such as eu-central-1: --region, AWS_REGION")),
    }
}

fn usage(message: &str) -> Failure {
    Failure::new(Kind::Usage, message).hint("onegrant helper --help")
}

/// The answer of a `credential_process`.
pub fn answer(credentials: &Credentials) -> String {
    let mut answer = members(credentials, timestamp(credentials.expires_at).into());
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("Version".to_owned(), 1.into());
    }
    answer.to_string()
}

/// The members of credentials, as AWS calls them.
pub(super) fn members(credentials: &Credentials, expiration: Value) -> Value {
    json!({
        "AccessKeyId": credentials.access_key_id.expose(),
        "SecretAccessKey": credentials.secret_access_key.expose(),
        "SessionToken": credentials.session_token.expose(),
        "Expiration": expiration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Secret;

    const ARN: &str = "arn:aws:iam::123456789012:role/Deploy";

    fn options(arn: &str) -> Options<'_> {
        Options { role_arn: Some(arn), ..Options::default() }
    }

    #[test]
    #[rustfmt::skip]
    fn the_server_is_that_of_the_address_or_the_region_or_the_partition() {
        // (role, --endpoint-url, --region, AWS_ENDPOINT_URL_STS, AWS_REGION, address)
        let china = "arn:aws-cn:iam::1:role/r";
        let cases = [
            (ARN,   None,                          None,              None,                      None,             Ok("https://sts.us-east-1.amazonaws.com/")),
            (ARN,   None,                          None,              None,                      Some("eu-west-1"), Ok("https://sts.eu-west-1.amazonaws.com/")),
            (ARN,   None,                          Some("eu-west-3"), None,                      Some("eu-west-1"), Ok("https://sts.eu-west-3.amazonaws.com/")),
            (ARN,   None,                          Some("eu-west-3"), Some("https://sts.example/"), None,          Ok("https://sts.example/")),
            (ARN,   None,                          None,              Some("https://sts.example/a"), Some("eu-west-1"), Ok("https://sts.example/a")),
            (ARN,   Some("http://127.0.0.1:9000"), Some("eu-west-3"), Some("https://sts.example/"), None,          Ok("http://127.0.0.1:9000/")),
            (china, None,                          None,              None,                      None,             Ok("https://sts.cn-north-1.amazonaws.com.cn/")),
            ("arn:aws-us-gov:iam::1:role/r", None, None,              None,                      None,             Ok("https://sts.us-gov-west-1.amazonaws.com/")),
            ("arn:aws-eusc:iam::1:role/r", None,   None,              None,                      None,             Ok("https://sts.eusc-de-east-1.amazonaws.eu/")),
            ("arn:minio:iam:::role/r", Some("https://minio.example/"), None, None,               None,             Ok("https://minio.example/")),
            ("arn:minio:iam:::role/r", None,       Some("eu-west-1"), None,                      None,             Err("--endpoint-url")),
            (ARN,   None,                          Some("evil.example/"), None,                  None,             Err("--region")),
            (ARN,   None,                          None,              None,                      Some("a@b"),      Err("--region")),
            (ARN,   Some("http://sts.example/"),   None,              None,                      None,             Err("--endpoint-url")),
            (ARN,   None,                          None,              Some("sts.example"),       None,             Err("AWS_ENDPOINT_URL_STS")),
        ];
        for (arn, endpoint_url, region, in_variable, usual_region, wanted) in cases {
            let options = Options { endpoint_url, region, ..options(arn) };
            let variables = Variables {
                region: usual_region.map(str::to_owned),
                endpoint_url: in_variable.map(str::to_owned),
            };
            match (role(&options, &variables), wanted) {
                (Ok(role), Ok(address)) => assert_eq!(role.endpoint, address),
                (Err(failure), Err(part)) => assert!(failure.message.contains(part), "{failure}"),
                (found, wanted) => panic!("{found:?}, not {wanted:?}"),
            }
        }
    }

    #[test]
    fn a_role_and_the_name_of_a_session_are_checked_before_they_are_sent() {
        let of = |options: Options| role(&options, &Variables::default());
        assert_eq!(of(options(ARN)).unwrap().session_name, "onegrant");
        let with_name = |name| of(Options { session_name: Some(name), ..options(ARN) });
        assert_eq!(with_name("alice@example.com").unwrap().session_name, "alice@example.com");
        let long = "x".repeat(65);
        for refused in [
            of(Options::default()),
            of(options("")),
            of(options("Deploy")),
            of(options("arn:aws:iam::1:role/a\nb")),
            with_name("a"),
            with_name("two words"),
            with_name(&long),
        ] {
            let failure = refused.unwrap_err();
            assert_eq!(
                (failure.kind, failure.hint.as_deref()),
                (Kind::Usage, Some("onegrant helper --help"))
            );
        }
    }

    #[test]
    fn an_answer_is_one_object_of_version_1() {
        let credentials = Credentials {
            access_key_id: Secret::new("ASIA"),
            secret_access_key: Secret::new("s"),
            session_token: Secret::new("t"),
            expires_at: 1_700_000_000,
        };
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&answer(&credentials)).unwrap(),
            json!({ "Version": 1, "AccessKeyId": "ASIA", "SecretAccessKey": "s", "SessionToken": "t",
                "Expiration": "2023-11-14T22:13:20Z" })
        );
    }
}
