//! Where in a file something stands that only a look at the whole found wrong.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A line and a column, both from 1. It reads as compilers write it: `:12:5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}:{}", self.line, self.column)
    }
}

/// The place of a field of a YAML text, written as `rules[2].freshness`: of the key, or of the entry of a list. What the text
/// does not have is where the nearest part around it is; `None` if that is the whole text.
pub fn of(text: &str, field: &str) -> Option<Place> {
    let root: Node = serde_saphyr::from_str(text).ok()?;
    let mut node = &root;
    let mut place = None;
    for step in field.split(['.', '[']) {
        let found = match node {
            Node::Map(entries) => entries
                .iter()
                .find(|(key, _)| key.value == step)
                .map(|(key, value)| (key.referenced, value)),
            Node::List(entries) => {
                let number: Option<usize> = step.trim_end_matches(']').parse().ok();
                let entry = number.and_then(|number| entries.get(number));
                entry.map(|entry| (entry.referenced, &entry.value))
            }
            Node::Scalar => None,
        };
        let Some((location, inner)) = found else {
            break;
        };
        place = Some(Place {
            line: location.line(),
            column: location.column(),
        });
        node = inner;
    }
    place
}

/// Any YAML value, as far as places in it matter.
#[derive(Debug)]
enum Node {
    Map(Vec<(Spanned<String>, Node)>),
    List(Vec<Spanned<Node>>),
    Scalar,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

/// Scalars of any type are all the same here.
macro_rules! scalars {
    ($($method:ident($type:ty)),*) => {
        $(fn $method<E>(self, _: $type) -> Result<Node, E> {
            Ok(Node::Scalar)
        })*
    };
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    scalars!(
        visit_bool(bool),
        visit_i64(i64),
        visit_i128(i128),
        visit_u64(u64),
        visit_u128(u128),
        visit_f64(f64),
        visit_str(&str),
        visit_bytes(&[u8])
    );

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            entries.push(entry);
        }
        Ok(Node::List(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a policy
format: 1
upstreams:
  - host: docker.io
    limits: {concurrency: 0}
  - {host: quay.io}
rules:
- name: a
  upstreams: [quay.io, ghcr.io]
  freshness:
    refreshAfter: 1m
";

    fn place(field: &str) -> String {
        of(TEXT, field).map_or_else(String::new, |place| place.to_string())
    }

    #[test]
    fn a_field_is_found_by_its_way_from_the_root() {
        assert_eq!(place("format"), ":2:1");
        assert_eq!(place("upstreams[0].limits"), ":5:5");
        assert_eq!(place("upstreams[0].limits.concurrency"), ":5:14");
        assert_eq!(place("upstreams[1].host"), ":6:6");
        assert_eq!(place("rules[0].upstreams[1]"), ":9:24");
        assert_eq!(place("rules[0].freshness"), ":10:3");
    }

    #[test]
    fn what_is_not_there_is_looked_for_around_it() {
        assert_eq!(place("upstreams[1].limits"), ":6:5");
        assert_eq!(place("rules[7].name"), ":7:1");
        assert_eq!(place("capacity.maxSize"), "");
        assert_eq!(of("", "rules"), None);
        assert_eq!(of("a: [", "a"), None);
    }
}
