//! One e-mail by SMTP.

use std::time::{Duration, SystemTime};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail, MultiPart};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use tollbook_schemas::id::AlertId;
use tollbook_schemas::time::Timestamp;

use super::DeliveryError;
use super::message::Message;
use super::outcome::{Outcome, Verdict};
use super::settings::{SmtpSettings, SmtpTls};

/// What sends mail. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    reply_to: Option<Mailbox>,
    operator: Option<Mailbox>,
    timeout: Duration,
}

impl Mailer {
    /// One that uses this server. Errors: a certificate cannot be used.
    pub(crate) fn new(settings: &SmtpSettings) -> Result<Self, DeliveryError> {
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(settings.host.as_str())
            .port(settings.port)
            .tls(tls(settings)?)
            .hello_name(ClientId::Domain(settings.hello.clone()))
            .timeout(Some(settings.timeout));
        if let Some((user, password)) = &settings.credentials {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        Ok(Self {
            transport: builder.build(),
            from: settings.from.clone(),
            reply_to: settings.reply_to.clone(),
            operator: settings.operator.clone(),
            timeout: settings.timeout,
        })
    }

    /// Who gets the platform's own alerts.
    pub(crate) const fn operator(&self) -> Option<&Mailbox> {
        self.operator.as_ref()
    }

    /// Sends a message once, at `now`. The alert's id is in it, so that repetitions can be told.
    pub(crate) async fn send(&self, to: Mailbox, id: &AlertId, message: Message, now: Timestamp) -> Outcome {
        let mail = match self.mail(to, id, message, now) {
            Ok(mail) => mail,
            Err(error) => return Outcome::refused(None, error.to_string()),
        };
        // The transport's own limit is for connecting only. Every mail has a connection of its own, which ends with this
        // future: one that was left in the middle of a conversation would take late answers for those to the next mail.
        match tokio::time::timeout(self.timeout, self.transport.send(mail)).await {
            Ok(Ok(reply)) => {
                let status = Some(u16::from(reply.code()));
                Outcome { verdict: Verdict::Delivered, status, error: None, retry_after: None }
            }
            Ok(Err(error)) => judge(&error),
            Err(_) => Outcome::failed(None, "the mail server did not answer in time".to_owned()),
        }
    }

    fn mail(
        &self,
        to: Mailbox,
        id: &AlertId,
        message: Message,
        now: Timestamp,
    ) -> Result<Mail, lettre::error::Error> {
        let since = Duration::from_secs(u64::try_from(now.seconds()).unwrap_or(0));
        let mut builder = Mail::builder()
            .from(self.from.clone())
            .to(to)
            .subject(message.subject)
            .date(SystemTime::UNIX_EPOCH + since)
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            .raw_header(raw("Auto-Submitted", "auto-generated"))
            .raw_header(raw("X-Tollbook-Alert", id.as_str()));
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        builder.multipart(MultiPart::alternative_plain_html(message.text, message.html))
    }
}

fn raw(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

fn tls(settings: &SmtpSettings) -> Result<Tls, DeliveryError> {
    if settings.tls == SmtpTls::None {
        return Ok(Tls::None);
    }
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.tls_ca {
        let failed = |reason: String| DeliveryError::Certificate { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let trusted = Certificate::from_pem(&pem).map_err(|error| failed(error.to_string()))?;
        builder = builder.add_root_certificate(trusted);
    }
    let parameters = builder.build().map_err(|error| DeliveryError::Client(error.to_string()))?;
    Ok(match settings.tls {
        SmtpTls::None => Tls::None,
        SmtpTls::Opportunistic => Tls::Opportunistic(parameters),
        SmtpTls::Required => Tls::Required(parameters),
        SmtpTls::Implicit => Tls::Wrapper(parameters),
    })
}

/// Replies about us and not about the message: user, password or protection are not as the server wants them. An operator
/// mends that, and what waits leaves.
const ABOUT_US: [u16; 4] = [530, 534, 535, 538];

fn judge(error: &Error) -> Outcome {
    let status = error.status().map(u16::from);
    let reason = error.to_string();
    if error.is_permanent() && !status.is_some_and(|status| ABOUT_US.contains(&status)) {
        return Outcome::refused(status, reason);
    }
    Outcome::failed(status, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r7_3_a_mail_says_whose_alert_it_is_and_that_nobody_wrote_it() {
        let settings = SmtpSettings {
            host: "mail.example.com".to_owned(),
            port: 25,
            tls: SmtpTls::None,
            tls_ca: None,
            credentials: None,
            from: "Tollbook <alerts@example.com>".parse().unwrap(),
            reply_to: Some("help@example.com".parse().unwrap()),
            timeout: Duration::from_secs(1),
            operator: None,
            hello: "engine.example.com".to_owned(),
        };
        let mailer = Mailer::new(&settings).unwrap();
        let message = Message {
            subject: "Balance below $5.00: Ümit".to_owned(),
            text: "text".to_owned(),
            html: "<p>html</p>".to_owned(),
        };
        let id = AlertId::from_bits(7);
        let now = "2026-11-21T09:03:00Z".parse().unwrap();
        let mail = mailer.mail("ada@example.com".parse().unwrap(), &id, message, now).unwrap();
        let text = String::from_utf8(mail.formatted()).unwrap();
        for header in [
            "From: Tollbook <alerts@example.com>".to_owned(),
            "To: ada@example.com".to_owned(),
            "Reply-To: help@example.com".to_owned(),
            "Date: Sat, 21 Nov 2026 09:03:00 +0000".to_owned(),
            format!("Message-ID: <{id}@example.com>"),
            "Auto-Submitted: auto-generated".to_owned(),
            format!("X-Tollbook-Alert: {id}"),
            "Content-Type: multipart/alternative;".to_owned(),
        ] {
            assert!(text.contains(&header), "{header}\n\n{text}");
        }
        assert!(text.contains("text/plain") && text.contains("text/html"), "{text}");
    }
}
