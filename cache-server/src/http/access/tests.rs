use std::collections::HashMap;

use http::HeaderValue;

use super::*;
use crate::http::tally::Tally;
use crate::http::traffic::Traffic;
use crate::metrics::Metrics;

/// The password "right", at the least cost.
fn hash() -> String {
    bcrypt::hash("right", 4).unwrap()
}

fn access(yaml: &str) -> policy::Access {
    let text = format!("upstreams: [{{host: r.test}}]\naccess: {yaml}\n");
    policy::Policy::parse(&text).unwrap().access
}

fn guard(yaml: &str, files: &[(&str, &str)]) -> Result<Guard, Error> {
    let files: HashMap<_, _> = files
        .iter()
        .map(|(path, text)| (Path::new(path), *text))
        .collect();
    Guard::new(&access(yaml), true, |path| files[path].as_bytes())
}

fn client(certified: bool) -> Client {
    Client {
        address: "10.0.0.1".parse().unwrap(),
        slot: None,
        traffic: Traffic::default(),
        certified,
        tally: Tally::new(Arc::new(Metrics::new().unwrap())),
    }
}

async fn admits(guard: &Guard, authorization: &[&str]) -> bool {
    let mut headers = HeaderMap::new();
    for value in authorization {
        headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    }
    guard.admits(&headers, &client(false)).await
}

fn basic(text: &str) -> String {
    let engine = base64::engine::general_purpose::STANDARD;
    format!("Basic {}", engine.encode(text))
}

#[tokio::test]
async fn a_password_opens_to_its_user_and_to_nobody_else() {
    let file = format!(
        "# team\nrobot:{}\n\nother:{}\n",
        hash(),
        hash().replace("$2b$", "$2y$")
    );
    let guard = guard("{basic: {htpasswdFile: u}}", &[("u", &file)]).unwrap();
    for (shown, expected) in [
        (vec![basic("robot:right")], true),
        (vec![basic("other:right")], true),
        (vec![basic("robot:right").replace("Basic", "bASIC")], true),
        (vec![basic("robot:wrong")], false),
        (vec![basic("robot:")], false),
        (vec![basic("nobody:right")], false),
        (vec![basic("robot")], false),
        (vec!["Basic ???".to_owned()], false),
        (vec!["Basic".to_owned()], false),
        (vec!["Bearer right".to_owned()], false),
        (vec![], false),
        (vec![basic("robot:right"), basic("robot:right")], false),
    ] {
        let shown: Vec<_> = shown.iter().map(String::as_str).collect();
        // The second time from memory.
        for _ in 0..2 {
            assert_eq!(admits(&guard, &shown).await, expected, "{shown:?}");
        }
    }
}

#[tokio::test]
async fn tokens_and_certificates_are_enough_where_they_are_wanted() {
    let tokens = [("t", "0123456789abcdef\n# old\nfedcba9876543210\n")];
    let guard = guard("{token: {tokensFile: t}, clientCertificate: true}", &tokens).unwrap();
    assert!(admits(&guard, &["Bearer 0123456789abcdef"]).await);
    assert!(admits(&guard, &["bearer fedcba9876543210"]).await);
    assert!(!admits(&guard, &["Bearer 0123456789abcde"]).await);
    assert!(!admits(&guard, &["Bearer # old"]).await);
    assert!(!admits(&guard, &["Bearer "]).await);
    assert!(guard.admits(&HeaderMap::new(), &client(true)).await);
    assert!(!guard.admits(&HeaderMap::new(), &client(false)).await);
}

#[tokio::test]
async fn a_user_and_a_password_in_files_of_their_own_open_to_nobody_else() {
    let yaml = "{basic: {usernameFile: u, passwordFile: p}}";
    let guard = guard(yaml, &[("u", "node\n"), ("p", "S3cr3t:\r\n")]).unwrap();
    assert!(!guard.is_open() && guard.challenge().unwrap().starts_with("Basic "));
    for (shown, expected) in [
        ("node:S3cr3t:", true),
        ("node:S3cr3t", false),
        ("nod:eS3cr3t:", false),
        (":", false),
    ] {
        assert_eq!(admits(&guard, &[&basic(shown)]).await, expected, "{shown}");
    }
    assert!(!admits(&guard, &[]).await);
    for files in [[("u", ""), ("p", "p")], [("u", "u"), ("p", "\n")]] {
        let error = self::guard(yaml, &files).unwrap_err().to_string();
        assert!(error.contains("it is empty"), "{error}");
    }
}

#[tokio::test]
async fn nothing_said_lets_everybody_in_and_an_empty_file_nobody() {
    let open = guard("{}", &[]).unwrap();
    assert!(open.is_open() && admits(&open, &[]).await);
    let closed = guard("{basic: {htpasswdFile: u}}", &[("u", "")]).unwrap();
    assert!(!closed.is_open() && !admits(&closed, &[&basic(":")]).await);
}

#[test]
fn passwords_are_asked_for_before_tokens_and_certificates_never() {
    let files = [("f", "")];
    let challenge = |yaml: &str| guard(yaml, &files).unwrap().challenge();
    let both = challenge("{basic: {htpasswdFile: f}, token: {tokensFile: f}}");
    assert!(both.unwrap().starts_with("Basic "));
    assert!(
        challenge("{token: {tokensFile: f}}")
            .unwrap()
            .starts_with("Bearer ")
    );
    assert_eq!(challenge("{clientCertificate: true}"), None);
}

#[test]
fn what_is_wrong_in_a_file_is_named_by_its_line_and_not_shown() {
    let dear = hash().replace("$04$", "$15$");
    for (users, expected) in [
        ("robot", "line 1 of f: write a user name"),
        ("# x\n:right-hash", "line 2 of f: write a user name"),
        ("robot:{SHA}S3cr3t=", "line 1 of f: write a user name"),
        ("robot:$apr1$S3cr3t$x", "line 1 of f: write a user name"),
        (
            &format!("robot:{dear}"),
            "line 1 of f: the hash has a cost of 15",
        ),
        (
            &format!("a:{0}\na:{0}", hash()),
            "line 2 of f: an earlier line",
        ),
    ] {
        let error = guard("{basic: {htpasswdFile: f}}", &[("f", users)])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected) && !error.contains("S3cr3t"),
            "{error}"
        );
    }
    let error = guard(
        "{token: {tokensFile: f}}",
        &[("f", "0123456789abcdef\nS3cr3t\n")],
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("line 2 of f: a token") && !error.contains("S3cr3t"),
        "{error}"
    );
}

#[test]
fn certificates_that_nobody_can_judge_are_a_broken_policy() {
    let result = Guard::new(&access("{clientCertificate: true}"), false, |_| b"");
    assert!(matches!(result, Err(Error::NoAuthority)));
}

#[test]
fn a_guard_shows_none_of_its_secrets() {
    let files = [
        ("u", &*format!("robot:{}", hash())),
        ("t", "S3cr3t-S3cr3t-S3cr3t"),
    ];
    let guard = guard("{basic: {htpasswdFile: u}, token: {tokensFile: t}}", &files).unwrap();
    let text = format!("{guard:?}");
    assert!(!text.contains("S3cr3t") && !text.contains("$2"), "{text}");
}
