//! The part of the command line of Rust's test runner that makes sense here.

/// Which cases to run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) list: bool,
    exact: bool,
    filters: Vec<String>,
    skipped: Vec<String>,
}

impl Arguments {
    /// Reads the arguments; options that only change how a parallel runner works or prints are passed over.
    pub(super) fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut parsed = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => parsed.list = true,
                "--exact" => parsed.exact = true,
                "--skip" => parsed.skipped.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" => drop(arguments.next()),
                option if option.starts_with('-') => {}
                filter => parsed.filters.push(filter.to_owned()),
            }
        }
        parsed
    }

    pub(super) fn choose(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skipped.iter().any(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn arguments(line: &str) -> Arguments {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_filter_chooses_by_part_of_the_name() {
        assert!(arguments("--nocapture pull").choose("node_pulls_an_image"));
        assert!(!arguments("pull --skip image").choose("node_pulls_an_image"));
        assert!(!arguments("--exact pull").choose("node_pulls_an_image"));
    }

    #[test]
    fn the_value_of_an_option_is_no_filter() {
        assert!(arguments("--test-threads 1").choose("anything"));
    }
}
