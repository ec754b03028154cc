//! `--device`: a person confirms the login on another device (RFC 8628).

use super::configuration::Configuration;
use super::{Granted, NotGranted};
use crate::cli;
use crate::driver::Clock;
use crate::error::{Failure, Kind};
use crate::oauth;
use crate::oauth::token::HttpTokenEndpoint;
use crate::output;
use crate::profile::Context;
use crate::protocol::device::{DeviceAuthorization, PollEvent, PollStep, Polling};
use crate::protocol::pkce::random_text;
use crate::system::{SignalsHeld, random};
use crate::text::{describe, printable};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;
use std::io::IsTerminal;

/// The widest QR code that is shown, in columns: the usual width of a terminal.
const QR_COLUMNS: usize = 80;

/// Begins the flow, shows the address and the code, and polls until the person has decided.
pub fn run(
    arguments: &cli::Login,
    configuration: &Configuration,
    context: &Context,
) -> Result<Granted, NotGranted> {
    let document = configuration.document();
    let timeout = context.globals.timeout;
    let began = context.now().elapsed;
    let failed = |error| Failure::new(Kind::Defect, format!("cannot log in: {}", describe(&error)));
    let code_verifier = random_text(random().map_err(failed)?);
    let authorization =
        oauth::device::authorize(context.client(), document, &code_verifier, timeout, context.now().wall)
            .map_err(|failed| NotGranted::of(failed, document))?;
    show(arguments, &authorization)?;
    let mut polling = Polling::new(&authorization);
    let mut event = PollEvent::Waited;
    let mut sent_at = context.now().wall;
    let mut signals = None;
    loop {
        match polling.next(event, context.now().elapsed.saturating_sub(began)) {
            PollStep::Wait(duration) => {
                // A Ctrl-C between two polls loses nothing.
                signals = None;
                context.pause(duration);
                event = PollEvent::Waited;
            }
            PollStep::Poll => {
                signals = signals.or_else(SignalsHeld::hold);
                sent_at = context.now().wall;
                let endpoint = HttpTokenEndpoint::new(context.client());
                let code = &authorization.device_code;
                let answer = endpoint.poll(document, code, &code_verifier, timeout, sent_at);
                event = PollEvent::Answered(answer);
            }
            PollStep::Granted(answer) => {
                return Ok(Granted { answer, sent_at, nonce: None, signals });
            }
            PollStep::Ended(failure) => return Err(failure.into()),
        }
    }
}

fn show(arguments: &cli::Login, authorization: &DeviceAuthorization) -> anyhow::Result<()> {
    if arguments.json {
        let event = json!({
            "event": "device_authorization",
            "verification_uri": authorization.verification_uri,
            "verification_uri_complete": authorization.verification_uri_complete,
            "user_code": authorization.user_code,
            "expires_in": authorization.expires_in.as_secs(),
            "interval": authorization.interval.as_secs(),
        });
        return output::answer(format!("{event}\n").as_bytes());
    }
    let complete = authorization.verification_uri_complete.as_deref();
    if let Some(code) = complete.filter(|_| std::io::stderr().is_terminal()).and_then(qr_code) {
        output::say(&code);
    }
    output::say(&format!(
        "open  {}\ncode  {}\n",
        printable(complete.unwrap_or(&authorization.verification_uri)),
        printable(&authorization.user_code),
    ));
    Ok(())
}

/// The address as a QR code, dark on light in every colour scheme of a terminal. `None` if it would be too wide.
fn qr_code(address: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(address, EcLevel::L).ok()?;
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let is_narrow = picture.lines().all(|line| line.chars().count() <= QR_COLUMNS);
    // The light modules are drawn: bright white on black.
    is_narrow.then(|| picture.lines().map(|line| format!("\x1b[97;40m{line}\x1b[0m\n")).collect())
}
