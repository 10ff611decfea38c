//! The files and commands of docs/flux.md.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::larder;

/// What the page says to write and to run.
#[derive(Debug)]
pub(crate) struct Guide {
    /// Path and content of each YAML block that names its file in its first line.
    files: Vec<(String, String)>,
    /// The lines of each block of commands.
    scripts: Vec<String>,
}

impl Guide {
    pub(crate) fn read() -> Result<Self> {
        let page = larder::workspace().join("docs/flux.md");
        let text = fs::read_to_string(&page)
            .with_context(|| format!("failed to read {}", page.display()))?;
        let guide = Self::parse(&text);
        ensure!(
            !guide.files.is_empty() && !guide.scripts.is_empty(),
            "{} has lost its files or its commands",
            page.display()
        );
        Ok(guide)
    }

    fn parse(text: &str) -> Self {
        let mut guide = Self {
            files: Vec::new(),
            scripts: Vec::new(),
        };
        for block in text.split("\n```yaml\n# ").skip(1) {
            let block = block.split("\n```").next().unwrap_or_default();
            let (path, content) = block.split_once('\n').unwrap_or((block, ""));
            guide.files.push((path.to_owned(), format!("{content}\n")));
        }
        for block in text.split("\n```console\n").skip(1) {
            let block = block.split("\n```").next().unwrap_or_default();
            let lines: Vec<&str> = block
                .lines()
                .filter_map(|line| line.strip_prefix("$ "))
                .collect();
            guide.scripts.push(lines.join("\n"));
        }
        guide
    }

    /// Writes all files below `directory`, each after `change`.
    pub(crate) fn write_to(&self, directory: &Path, change: impl Fn(&str) -> String) -> Result<()> {
        for (path, content) in &self.files {
            let path = directory.join(path);
            let parent = path.parent().unwrap_or(directory);
            fs::create_dir_all(parent)
                .with_context(|| format!("failed to create {}", parent.display()))?;
            fs::write(&path, change(content))
                .with_context(|| format!("failed to write {}", path.display()))?;
        }
        Ok(())
    }

    /// The block of commands in which `word` stands.
    pub(crate) fn script(&self, word: &str) -> Result<&str> {
        let found = self.scripts.iter().find(|script| script.contains(word));
        found
            .map(String::as_str)
            .with_context(|| format!("docs/flux.md has no commands with {word}"))
    }
}
