//! AWS' signature, version 4, of requests without a query. Pure.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use ring::hmac;
use sha2::{Digest as _, Sha256};

use super::aws_keys::Keys;
use crate::clock::Moment;

/// What is signed, and for whom.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// Lower-case names, in their order.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// As [`date`] writes it.
    pub(super) date: &'a str,
}

/// `20150830T123600Z`
pub(super) fn date(now: Moment) -> String {
    jiff::Timestamp::from_millisecond(now.0).map_or_else(
        |_| String::new(),
        |time| time.strftime("%Y%m%dT%H%M%SZ").to_string(),
    )
}

/// The value of the Authorization header.
pub(super) fn authorization(keys: &Keys, signed: &Signed<'_>) -> String {
    let day = signed.date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{}/aws4_request", signed.region, signed.service);
    let names: Vec<&str> = signed.headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: Vec<String> = signed
        .headers
        .iter()
        .map(|(name, value)| format!("{name}:{}", value.trim()))
        .collect();
    let lines = lines.join("\n");
    let request = format!(
        "{}\n/\n\n{lines}\n\n{names}\n{}",
        signed.method,
        hex(&Sha256::digest(signed.body))
    );
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        signed.date,
        hex(&Sha256::digest(request))
    );
    let mut key = format!("AWS4{}", keys.secret).into_bytes();
    for part in [day, signed.region, signed.service, "aws4_request"] {
        key = sign(&key, part).as_ref().to_vec();
    }
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        keys.access,
        hex(sign(&key, &text).as_ref())
    )
}

fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS' published test suite: get-vanilla, post-vanilla, post-x-www-form-urlencoded, post-sts-header-before.
    #[test]
    fn signatures_are_those_of_the_published_suite() {
        const DATE: &str = "20150830T123600Z";
        const HOST: (&str, &str) = ("host", "example.amazonaws.com");
        const AT: (&str, &str) = ("x-amz-date", DATE);
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let content_type = ("content-type", "application/x-www-form-urlencoded");
        let keys = Keys {
            access: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session: None,
        };
        for (method, headers, body, expected) in [
            (
                "GET",
                &[HOST, AT][..],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "POST",
                &[HOST, AT],
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "POST",
                &[content_type, HOST, AT],
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "POST",
                &[HOST, AT, ("x-amz-security-token", token)],
                "",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ] {
            let signed = Signed {
                method,
                headers,
                body: body.as_bytes(),
                region: "us-east-1",
                service: "service",
                date: DATE,
            };
            let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
            assert_eq!(
                authorization(&keys, &signed),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={}, Signature={expected}",
                    names.join(";")
                )
            );
        }
        assert_eq!(date(Moment(1_440_938_160_000)), DATE);
    }
}
