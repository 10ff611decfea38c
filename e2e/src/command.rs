//! Runs a program to its end and makes its failure readable.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` and returns what it wrote to standard output; a failure carries the command line and its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to start {line}"))?;
    text_of(&line, output)
}

/// As [`output`], with `input` on the program's standard input.
pub fn output_with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    let line = line(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {line}"))?;
    let mut stdin = child
        .stdin
        .take()
        .context("the child has no standard input")?;
    let output = std::thread::scope(|scope| {
        // In a thread of its own, so that a program which answers before it has read everything can't block both sides.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output()
    })
    .with_context(|| format!("failed to wait for {line}"))?;
    text_of(&line, output)
}

fn text_of(line: &str, output: Output) -> Result<String> {
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{line} ended with {}: {}", output.status, error.trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{line} wrote something that is not UTF-8"))
}

fn line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
