//! Which authorities clients trust, and which the servers may count on, while authorities change. Pure.
//!
//! A new authority is trusted at once and counted on after a delay, in which clients get it; where agents say what the nodes have,
//! not before all of them have it, or have been waited for for [`PATIENCE`]. One that is gone is trusted until the others are counted
//! on, and another delay more, of [`SYNC`] at least: until the servers have left it, and a while. So at no moment a server shows a
//! certificate that a node with an agent, or a client that is no further behind than the delay, would refuse.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::observe::Live;
use crate::render::names::{self, Owner};

/// Authorities of one cache; more would be somebody's whole trust store.
const MAXIMUM: usize = 32;
/// Seconds in which the kubelet surely brings a new certificate into pods: its sync of a minute, after its memory of the Secret of
/// another one, and some more.
const SYNC: i64 = 180;
/// Seconds after the delay, in which nodes are waited for. One that has been away for longer gets the authority when it is back; a
/// certificate that ends before is replaced by the server itself.
const PATIENCE: i64 = 24 * 60 * 60;
/// Seconds until nodes that are waited for are looked at again.
const LOOK: i64 = 15;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// What is told of authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// What clients shall trust, in PEM.
    pub(crate) trusted: String,
    /// What the servers may take as known to clients, in PEM.
    pub(crate) known: String,
    /// When each came and went, for the next time.
    pub(crate) history: String,
    /// When it changes by itself.
    pub(crate) next: Option<Duration>,
}

/// Certificates by fingerprint, with what is remembered of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Past(BTreeMap<String, (String, Stay)>);

/// Seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stay {
    came: i64,
    /// When it was first counted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    went: Option<i64>,
}

/// What decides beside the authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Situation {
    /// Whether servers showed a certificate before, which may be of an authority that was not declared.
    pub(super) served: bool,
    /// Whether nodes that are asked may lack what was told last.
    pub(super) behind: bool,
    pub(super) now: i64,
    /// Seconds that clients get who are not asked.
    pub(super) delay: i64,
}

impl Past {
    /// What was told last. An authority that somebody wrote there by hand has no history, and counts as nothing.
    pub(super) fn of_live(live: &Live, owner: &Owner) -> Self {
        let read = || {
            let object = live.get("ConfigMap", &names::authorities(&owner.name))?;
            let is_ours = |uid: &str| uid == owner.uid;
            if !object
                .owner_references()
                .iter()
                .any(|one| is_ours(&one.uid))
            {
                return None;
            }
            let text = object.data.pointer("/data/ca.crt")?.as_str()?.to_owned();
            let history = object.annotations().get(names::AUTHORITY_HISTORY)?;
            let history: BTreeMap<String, Stay> = serde_json::from_str(history).ok()?;
            Some(Self::new(&text, &history))
        };
        read().unwrap_or_default()
    }

    fn new(text: &str, history: &BTreeMap<String, Stay>) -> Self {
        let entries = certificates(text).into_iter().filter_map(|certificate| {
            let fingerprint = fingerprint(&certificate);
            let stay = history.get(&fingerprint)?;
            Some((fingerprint, (certificate, *stay)))
        });
        Self(entries.collect())
    }
}

/// What to tell now. `declared`: PEM text of those that are wanted. `None`: there is no authority to tell of.
pub(super) fn authorities(
    declared: &str,
    past: &Past,
    situation: Situation,
) -> Result<Option<Authorities>, String> {
    let declared_certificates = certificates(declared);
    if declared_certificates.is_empty() && !declared.trim().is_empty() {
        return Err("it holds no certificate in PEM".to_owned());
    }
    if declared_certificates.len() > MAXIMUM {
        return Err(format!("it holds more than {MAXIMUM} certificates"));
    }
    let Situation { now, delay, .. } = situation;
    let mut all: Vec<(String, String, Stay)> = Vec::new();
    for certificate in declared_certificates {
        let fingerprint = fingerprint(&certificate);
        let before = past.0.get(&fingerprint).map(|(_, stay)| *stay);
        let stay = situation.stay(before, past.0.is_empty());
        if all.iter().all(|(other, ..)| *other != fingerprint) {
            all.push((fingerprint, certificate, stay));
        }
    }
    // Servers may leave the old ones from here on.
    let left = all.iter().try_fold(i64::MIN, |latest, (_, _, stay)| {
        Some(latest.max(stay.known?))
    });
    let farewell = |went: i64| Some((went + delay).max(left?) + delay.max(SYNC));
    for (fingerprint, (certificate, stay)) in &past.0 {
        let went = stay.went.unwrap_or(now);
        let is_declared = all.iter().any(|(other, ..)| other == fingerprint);
        if !is_declared && farewell(went).is_none_or(|end| now < end) {
            let stay = Stay {
                went: Some(went),
                ..*stay
            };
            all.push((fingerprint.clone(), certificate.clone(), stay));
        }
    }
    if all.is_empty() {
        return Ok(None);
    }
    let changes = all.iter().flat_map(|(_, _, stay)| {
        let known = match stay.known {
            Some(_) => None,
            None if now < stay.came + delay => Some(stay.came + delay),
            None => Some((now + LOOK).min(stay.came + delay + PATIENCE)),
        };
        known.into_iter().chain(stay.went.and_then(&farewell))
    });
    let next = changes.min().map(|at| u64::try_from(at - now).unwrap_or(0));
    let text = |wanted: &dyn Fn(&Stay) -> bool| -> String {
        let wanted = all.iter().filter(|(_, _, stay)| wanted(stay));
        wanted
            .map(|(_, certificate, _)| certificate.as_str())
            .collect()
    };
    let history: BTreeMap<&str, Stay> = all
        .iter()
        .map(|(name, _, stay)| (name.as_str(), *stay))
        .collect();
    Ok(Some(Authorities {
        trusted: text(&|_| true),
        known: text(&|stay| stay.known.is_some()),
        history: serde_json::to_string(&history).expect("plain data has a JSON form"),
        next: next.map(|seconds| Duration::from_secs(seconds.max(1))),
    }))
}

impl Situation {
    /// Of an authority that is declared. `first`: none was told of before.
    fn stay(self, before: Option<Stay>, first: bool) -> Stay {
        let Some(before) = before else {
            if first && !self.served {
                // Nobody trusted another one before. Without a time, what is rendered is the same each time.
                return Stay {
                    came: 0,
                    known: Some(0),
                    went: None,
                };
            }
            let at_once = self.delay == 0 && !self.behind;
            return Stay {
                came: self.now,
                known: at_once.then_some(self.now),
                went: None,
            };
        };
        let waited = self.now - before.came;
        let is_time = (waited >= self.delay && !self.behind) || waited >= self.delay + PATIENCE;
        Stay {
            known: before.known.or(is_time.then_some(self.now)),
            went: None,
            ..before
        }
    }
}

/// The certificates of a text, each with its ends and nothing between them: what else stands there, a key for instance, is never passed on.
fn certificates(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let Some((body, after)) = after.split_once(END) else {
            break;
        };
        let lines = body.lines().map(str::trim).filter(|line| !line.is_empty());
        let body = lines.collect::<Vec<_>>().join("\n");
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=\n".contains(&byte);
        if !body.is_empty() && body.bytes().all(is_base64) {
            found.push(format!("{BEGIN}\n{body}\n{END}\n"));
        }
        rest = after;
    }
    found
}

/// 16 hexadecimal digits.
fn fingerprint(certificate: &str) -> String {
    use std::fmt::Write as _;
    let digest = Sha256::digest(certificate);
    digest.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DELAY: i64 = 600;

    fn pem(name: &str) -> String {
        format!("{BEGIN}\n{name}\n{END}\n")
    }

    fn pems(names: &[&str]) -> String {
        names.iter().map(|name| pem(name)).collect()
    }

    /// What is told, and what will be remembered of it.
    fn tell(declared: &[&str], past: &Past, now: i64) -> (Authorities, Past) {
        tell_after(DELAY, declared, past, now)
    }

    fn tell_after(delay: i64, declared: &[&str], past: &Past, now: i64) -> (Authorities, Past) {
        let situation = Situation {
            served: true,
            behind: false,
            now,
            delay,
        };
        tell_in(situation, declared, past)
    }

    fn tell_in(situation: Situation, declared: &[&str], past: &Past) -> (Authorities, Past) {
        let told = authorities(&pems(declared), past, situation)
            .unwrap()
            .unwrap();
        let past = Past::new(&told.trusted, &serde_json::from_str(&told.history).unwrap());
        (told, past)
    }

    /// Of a cache that is new.
    const FRESH: Situation = Situation {
        served: false,
        behind: false,
        now: 0,
        delay: DELAY,
    };

    fn first(declared: &str) -> Past {
        let told = authorities(&pem(declared), &Past::default(), FRESH)
            .unwrap()
            .unwrap();
        assert_eq!((&told.known, told.next), (&told.trusted, None));
        Past::new(&told.trusted, &serde_json::from_str(&told.history).unwrap())
    }

    #[test]
    fn a_new_authority_is_trusted_at_once_and_known_later_and_the_old_one_goes_last() {
        let start = 1_000_000;
        let mut past = first("old");
        let mut seen = Vec::new();
        let mut now = start;
        loop {
            let (told, next) = tell(&["new"], &past, now);
            let names = |text: &str| {
                ["new", "old"]
                    .into_iter()
                    .filter(|name| text.contains(&pem(name)))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            seen.push(format!(
                "{:>4} trusted: {}; known: {}",
                now - start,
                names(&told.trusted),
                names(&told.known)
            ));
            past = next;
            let Some(wait) = told.next else { break };
            now += i64::try_from(wait.as_secs()).unwrap();
        }
        insta::assert_snapshot!(seen.join("\n"), @r"
           0 trusted: new old; known: old
         600 trusted: new old; known: new old
        1200 trusted: new; known: new
        ");
    }

    #[test]
    fn nodes_that_are_behind_are_waited_for_and_the_old_authority_stays_meanwhile() {
        let start = 1_000_000;
        let at = |seconds: i64, behind: bool| Situation {
            served: true,
            behind,
            now: start + seconds,
            delay: DELAY,
        };
        let (_, past) = tell_in(at(0, true), &["new"], &first("old"));
        let (told, past) = tell_in(at(DELAY, true), &["new"], &past);
        assert_eq!(told.known, pem("old"));
        assert_eq!(told.next, Some(Duration::from_secs(15)));
        let (told, past) = tell_in(at(5 * DELAY, true), &["new"], &past);
        assert_eq!(told.trusted, pems(&["new", "old"]));

        let (patient, _) = tell_in(at(DELAY + PATIENCE, true), &["new"], &past);
        assert_eq!(patient.known, pems(&["new", "old"]));

        let (told, past) = tell_in(at(6 * DELAY, false), &["new"], &past);
        assert_eq!(told.known, pems(&["new", "old"]));
        assert_eq!(told.next, Some(Duration::from_mins(10)));
        let (told, past) = tell_in(at(7 * DELAY - 1, true), &["new"], &past);
        assert_eq!(told.known, pems(&["new", "old"]), "what is known stays so");
        let (told, _) = tell_in(at(7 * DELAY, true), &["new"], &past);
        assert_eq!((told.trusted, told.next), (pem("new"), None));
    }

    #[test]
    fn a_short_delay_does_not_outrun_the_kubelet() {
        let start = 1_000_000;
        let (mut told, mut past) = tell_after(10, &["new"], &first("old"), start);
        let mut now = start;
        while let Some(wait) = told.next {
            assert!(told.trusted.contains(&pem("old")));
            now += i64::try_from(wait.as_secs()).unwrap();
            (told, past) = tell_after(10, &["new"], &past, now);
        }
        assert_eq!((now - start, told.trusted), (10 + SYNC, pem("new")));
    }

    #[test]
    fn at_rest_nothing_changes_with_time() {
        let past = first("one");
        let (told, next) = tell(&["one"], &past, 5_000_000);
        assert_eq!((told.next, next), (None, past));
    }

    #[test]
    fn an_authority_that_comes_back_is_known_still() {
        let (_, past) = tell(&["new"], &first("old"), 1_000_000);
        let (told, _) = tell(&["old"], &past, 1_000_060);
        assert!(told.known.contains(&pem("old")) && told.trusted.contains(&pem("new")));
    }

    #[test]
    fn the_first_authority_of_servers_that_had_none_waits_too() {
        let (told, _) = tell(&["new"], &Past::default(), 1_000_000);
        assert_eq!(told.known, "");
        assert_eq!(told.next, Some(Duration::from_mins(10)));
    }

    #[test]
    fn only_certificates_are_passed_on() {
        let key = "-----BEGIN PRIVATE KEY-----\nS3cr3t\n-----END PRIVATE KEY-----\n";
        let text = format!(
            "words\n{key}{}# comment\r\n{}",
            pem("one").replace('\n', "\r\n"),
            pem("one")
        );
        let of = |text: &str| authorities(text, &Past::default(), FRESH);
        assert_eq!(of(&text).unwrap().unwrap().trusted, pem("one"));
        assert!(of(key).is_err());
        assert_eq!(of(" \n"), Ok(None));
        let many: String = (0..33).map(|number| pem(&format!("c{number}"))).collect();
        assert!(of(&many).is_err());
    }

    #[test]
    fn what_somebody_wrote_by_hand_has_no_history() {
        let history = BTreeMap::from([(
            fingerprint(&pem("ours")),
            Stay {
                came: 0,
                known: Some(0),
                went: None,
            },
        )]);
        let past = Past::new(&pems(&["ours", "theirs"]), &history);
        let (told, _) = tell(&["ours"], &past, 1_000_000);
        assert_eq!(told.trusted, pem("ours"));
    }

    proptest! {
        /// Whatever is declared in turn: what servers count on was trusted for a delay before, and stays so while they show it.
        #[test]
        fn what_is_known_was_trusted_for_the_delay(
            turns in prop::collection::vec((prop::collection::vec(0..4_usize, 1..3), 0..900_i64, any::<bool>()), 1..12),
        ) {
            const NAMES: [&str; 4] = ["a", "b", "c", "d"];
            let mut past = first("a");
            let mut now = 1_000_000;
            let mut trusted_since = BTreeMap::from([("a", 0)]);
            for (declared, wait, behind) in turns {
                let declared: Vec<&str> = declared.into_iter().map(|at| NAMES[at]).collect();
                let situation = Situation { served: true, behind, now, delay: DELAY };
                let (told, next) = tell_in(situation, &declared, &past);
                trusted_since.retain(|name, _| told.trusted.contains(&pem(name)));
                for name in NAMES {
                    if told.trusted.contains(&pem(name)) {
                        trusted_since.entry(name).or_insert(now);
                    }
                    if told.known.contains(&pem(name)) {
                        let since = trusted_since.get(name);
                        prop_assert!(since.is_some_and(|since| now - since >= DELAY), "{name} at {now}");
                    }
                }
                for name in declared {
                    prop_assert!(told.trusted.contains(&pem(name)));
                }
                past = next;
                now += wait;
            }
        }
    }
}
