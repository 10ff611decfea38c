use super::*;

const FULL: &str = "
format: 1
upstreams:
- host: docker.io
- host: quay.io
  endpoints: [https://mirror.example:5000]
  repositoryPrefix: proxy/quay
  caFile: /etc/larder/secrets/quay/ca.crt
  credentials:
  - {usernameFile: /etc/larder/credentials/robot/username, passwordFile: /etc/larder/credentials/robot/password}
  - {repositoryPrefix: team, dockerConfigFile: /etc/larder/credentials/team/config.json}
  authRealms: [https://login.example]
  redirectHosts: [storage.example, '10.0.0.9:9000']
  proxy: http://proxy.example:3128
  clientCertificate: {certificateFile: /tls.crt, keyFile: /tls.key}
  limits: {concurrency: 8, bytesPerSecond: 1000000}
  freshness: {refreshAfter: 1m, immutableTags: ['*-final']}
allowAnonymousPrivate: true
defaultUpstream: docker.io
rules:
- name: ours/releases
  upstreams: [docker.io]
  repositories: [ours/**]
  tags: ['v*']
  action: Cache
  freshness: {refreshAfter: 1h, immutableTags: ['v1.*']}
  retention: {unusedFor: 30d, keepNewest: 5}
- name: ours/secret
  repositories: [ours/secret]
  action: Deny
- name: theirs
  tags: [latest]
  action: Refuse
defaultAction: Forward
capacity: {maxSize: 45Gi, minFree: 500M, highWatermark: 90, lowWatermark: 80}
";

fn decide<'a>(
    decisions: &'a Decisions,
    upstream: &str,
    repository: &str,
    tag: Option<&str>,
) -> (Action, Option<&'a str>) {
    let upstream = upstream.parse().unwrap();
    let decision = decisions.decide(Subject {
        upstream: &upstream,
        repository,
        tag,
    });
    (decision.action, decision.rule)
}

#[test]
fn what_is_written_reads_back() {
    let policy = Policy::parse(FULL).unwrap();
    assert_eq!(Policy::parse(&policy.to_yaml()).unwrap(), policy);
    insta::assert_snapshot!(policy.to_yaml());
}

#[test]
fn hash_is_of_the_meaning() {
    let policy = Policy::parse(FULL).unwrap();
    let with_comment = FULL.replace("- host: quay.io", "# a comment\n- host: quay.io");
    assert_eq!(Policy::parse(&with_comment).unwrap().hash(), policy.hash());
    let changed = FULL.replace("defaultAction: Forward", "defaultAction: Cache");
    assert_ne!(Policy::parse(&changed).unwrap().hash(), policy.hash());
    // The vector that both sides of the contract must agree on.
    insta::assert_snapshot!(Policy::public_registries().hash());
}

#[test]
fn first_rule_that_matches_decides() {
    let decisions = Decisions::new(&Policy::parse(FULL).unwrap());
    assert_eq!(
        decide(&decisions, "docker.io", "ours/app", Some("v1.2")),
        (Action::Cache, Some("ours/releases"))
    );
    assert_eq!(
        decide(&decisions, "docker.io", "ours/secret", Some("v1")),
        (Action::Cache, Some("ours/releases"))
    );
    assert_eq!(
        decide(&decisions, "quay.io", "ours/secret", Some("v1")),
        (Action::Deny, Some("ours/secret"))
    );
    assert_eq!(
        decide(&decisions, "quay.io", "a", Some("latest")),
        (Action::Refuse, Some("theirs"))
    );
    assert_eq!(
        decide(&decisions, "quay.io", "a", Some("1")),
        (Action::Forward, None)
    );
}

#[test]
fn tag_globs_let_digests_through_but_never_forbid_them() {
    let decisions = Decisions::new(&Policy::parse(FULL).unwrap());
    assert_eq!(
        decide(&decisions, "docker.io", "ours/app", None),
        (Action::Cache, Some("ours/releases"))
    );
    assert_eq!(
        decide(&decisions, "quay.io", "a", None),
        (Action::Forward, None)
    );
}

#[test]
fn rule_sets_the_freshness_of_its_tags() {
    let decisions = Decisions::new(&Policy::parse(FULL).unwrap());
    let upstream = "docker.io".parse().unwrap();
    let decision = decisions.decide(Subject {
        upstream: &upstream,
        repository: "ours/app",
        tag: Some("v1.2"),
    });
    assert_eq!(decision.freshness.refresh_after, Duration::from_secs(3600));
    assert!(decision.immutable);
}

#[test]
fn upstream_sets_the_freshness_of_tags_of_which_no_rule_says_it() {
    let policy = FULL.replace(
        "- name: theirs\n",
        "- name: theirs\n  upstreams: [docker.io]\n",
    );
    let decisions = Decisions::new(&Policy::parse(&policy).unwrap());
    let fresh_for = |upstream: &str, repository, tag| {
        let decision = decisions.decide(Subject {
            upstream: &upstream.parse().unwrap(),
            repository,
            tag: Some(tag),
        });
        let seconds = decision.freshness.refresh_after.as_secs();
        (seconds, decision.immutable)
    };
    assert_eq!(fresh_for("quay.io", "a", "1-final"), (60, true));
    assert_eq!(fresh_for("quay.io", "a", "latest"), (60, false));
    // A rule that matches and says nothing of it changes nothing.
    assert_eq!(fresh_for("quay.io", "ours/secret", "1"), (60, false));
    assert_eq!(fresh_for("docker.io", "a", "1-final"), (300, false));
    assert_eq!(fresh_for("docker.io", "ours/app", "v1.2"), (3600, true));
}

#[test]
fn retention_of_tags_speaks_of_content_with_such_tags_only() {
    let decisions = Decisions::new(&Policy::parse(FULL).unwrap());
    let upstream = "docker.io".parse().unwrap();
    let rule = |tag| {
        let kept = decisions.kept(Subject {
            upstream: &upstream,
            repository: "ours/app",
            tag,
        });
        kept.map(|kept| (kept.rule, kept.retention.keep_newest))
    };
    assert!(decisions.retain());
    assert_eq!(rule(Some("v1")), Some(("ours/releases", Some(5))));
    assert_eq!(rule(Some("latest")), Some(("theirs", None)));
    assert_eq!(rule(None), None);
    assert!(!Decisions::new(&Policy::public_registries()).retain());
}

#[test]
fn errors_say_what_and_where() {
    let message = |from: &str, to: &str| {
        Policy::parse(&FULL.replace(from, to))
            .unwrap_err()
            .to_string()
    };
    insta::assert_snapshot!("unknown field", message("rules:", "rulez:"));
    insta::assert_snapshot!("bad glob", message("[ours/**]", "['ours/[']"));
    insta::assert_snapshot!("bad action", message("action: Deny", "action: Forbid"));
    insta::assert_snapshot!(
        "bad duration",
        message("refreshAfter: 1h", "refreshAfter: soon")
    );
    insta::assert_snapshot!(
        "same upstream",
        message("host: quay.io", "host: index.docker.io")
    );
    insta::assert_snapshot!(
        "unknown default",
        message("defaultUpstream: docker.io", "defaultUpstream: ghcr.io")
    );
    insta::assert_snapshot!(
        "unknown upstream",
        message("upstreams: [docker.io]", "upstreams: [ghcr.io]")
    );
    insta::assert_snapshot!("same rule", message("name: theirs", "name: ours/secret"));
    insta::assert_snapshot!("format", message("format: 1", "format: 9"));
    insta::assert_snapshot!("bad size", message("45Gi", "90%"));
    insta::assert_snapshot!("no capacity", message("45Gi", "0"));
    insta::assert_snapshot!(
        "watermarks",
        message("lowWatermark: 80", "lowWatermark: 90")
    );
    insta::assert_snapshot!(
        "retention of nothing",
        message("keepNewest: 5", "keepNewest: 0")
    );
    insta::assert_snapshot!("pin with limits", message("keepNewest: 5", "pin: true"));
    insta::assert_snapshot!(
        "retention without cache",
        message("action: Deny", "action: Deny\n  retention: {pin: true}")
    );
    insta::assert_snapshot!(
        "credentials for everybody",
        message("allowAnonymousPrivate: true", "")
    );
    insta::assert_snapshot!(
        "two kinds of credential",
        message("{repositoryPrefix: team,", "{usernameFile: /a,")
    );
    insta::assert_snapshot!(
        "two kinds of password",
        message(
            "allowAnonymousPrivate: true",
            "access: {basic: {htpasswdFile: /u, passwordFile: /p}}"
        )
    );
    insta::assert_snapshot!("same credential", message("{repositoryPrefix: team,", "{"));
}

#[test]
fn what_the_whole_refuses_is_found_in_the_text() {
    let cases = [
        ("format: 1", "format: 9"),
        ("host: quay.io", "host: index.docker.io"),
        ("  limits: {concurrency: 8", "  limits: {concurrency: 0"),
        (
            "  limits: {concurrency: 8",
            "  headerTimeout: 6m\n  limits: {concurrency: 8",
        ),
        ("allowAnonymousPrivate: true", ""),
        (
            "allowAnonymousPrivate: true",
            "access: {basic: {htpasswdFile: /u, passwordFile: /p}}",
        ),
        ("{repositoryPrefix: team,", "{usernameFile: /a,"),
        ("{repositoryPrefix: team,", "{"),
        (
            "dockerConfigFile: /etc/larder/credentials/team/config.json",
            "identity: {provider: Gar, role: a}",
        ),
        ("defaultUpstream: docker.io", "defaultUpstream: ghcr.io"),
        ("upstreams: [docker.io]", "upstreams: [docker.io, ghcr.io]"),
        ("name: theirs", "name: ours/secret"),
        ("name: theirs", "name: ''"),
        (
            "action: Deny",
            "action: Deny\n  freshness: {refreshAfter: 1s}",
        ),
        ("action: Deny", "action: Deny\n  retention: {pin: true}"),
        ("keepNewest: 5", "keepNewest: 0"),
        ("keepNewest: 5", "pin: true"),
        ("lowWatermark: 80", "lowWatermark: 90"),
        ("45Gi", "0"),
    ];
    let places = cases.iter().map(|(from, to)| {
        let text = FULL.replacen(from, to, 1);
        let error = Policy::parse(&text).unwrap_err();
        let policy = yaml(&text).unwrap();
        let field = error.field(&policy).unwrap();
        let place = crate::place::of(&text, &field).unwrap();
        let line = text
            .lines()
            .nth(usize::try_from(place.line).unwrap() - 1)
            .unwrap();
        let there: String = line
            .chars()
            .skip(usize::try_from(place.column).unwrap() - 1)
            .take(40)
            .collect();
        format!("{field} -> {there}")
    });
    insta::assert_snapshot!(places.collect::<Vec<_>>().join("\n"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*") {
        let _ = Policy::parse(&text);
    }
}

#[test]
fn credentials_need_no_permission_where_clients_show_who_they_are() {
    let with = |access: &str| Policy::parse(&FULL.replace("allowAnonymousPrivate: true", access));
    for access in [
        "access: {basic: {htpasswdFile: /users}}",
        "access: {token: {tokensFile: /tokens}, clientCertificate: true}",
        "access: {basic: {usernameFile: /user, passwordFile: /password}}",
    ] {
        let policy = with(access).unwrap();
        assert_eq!(Policy::parse(&policy.to_yaml()).unwrap(), policy);
    }
    for access in ["access: {}", "access: {clientCertificate: false}"] {
        assert!(matches!(with(access), Err(Error::AnonymousPrivate { .. })));
    }
}
