//! The node's `certs.d`: looks at it, and does the steps of a plan so that each file is the old or the new one at any moment.
//!
//! ```text
//! certs.d/
//!   docker.io/hosts.toml              what containerd reads
//!   _larder-backup/
//!     docker.io.json                  the record of what was changed
//!     docker.io/hosts.toml            what was there before
//!     temporary                       a file on its way to its name
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::plan::{Files, Record, Seen, Step};

/// Directory of the records and backups. No registry can have this name.
pub const BACKUP: &str = "_larder-backup";
/// Permissions of files with credentials.
const FOR_ROOT: u32 = 0o600;
/// Ending of a record's name.
const RECORD: &str = ".json";

/// Why the files could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}", .path.display())]
pub struct Error {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

/// Asked before each change of a file or directory; an error stands for a disk that refuses it. For tests.
pub type Gate = Box<dyn FnMut() -> io::Result<()> + Send>;

/// A node's `certs.d`.
pub struct Disk {
    root: PathBuf,
    gate: Gate,
}

impl Disk {
    /// The directory from which containerd reads `HOST/hosts.toml`.
    pub fn new(root: &Path) -> Self {
        Self::with_gate(root, Box::new(|| Ok(())))
    }

    /// The same, with a gate.
    pub fn with_gate(root: &Path, gate: Gate) -> Self {
        Self {
            root: root.to_owned(),
            gate,
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names of the directories that the agent has changed.
    pub fn recorded(&self) -> Result<BTreeSet<String>, Error> {
        let path = self.backup_root();
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(source) => return Err(failed("list", &path)(source)),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(failed("list", &path))?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(RECORD));
            names.extend(name.map(str::to_owned));
        }
        Ok(names)
    }

    /// One directory, with the contents of the named files and of those that are recorded.
    pub fn look<'a>(
        &self,
        directory: &str,
        files: impl Iterator<Item = &'a String>,
    ) -> Result<Seen, Error> {
        let record = self.record(directory)?;
        let path = self.root.join(directory);
        let exists = path.is_dir();
        let recorded = record.iter().flat_map(|record| record.files.keys());
        let names: BTreeSet<String> = files.cloned().chain(recorded.cloned()).collect();
        let mut contents = Files::new();
        for file in names {
            let path = path.join(&file);
            match fs::read(&path) {
                Ok(bytes) => {
                    contents.insert(file, String::from_utf8(bytes).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {}
                // A link to nowhere is there, too.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    contents.insert(file, String::new());
                }
                Err(source) => return Err(failed("read", &path)(source)),
            }
        }
        Ok(Seen {
            exists,
            files: contents,
            record,
        })
    }

    fn record(&self, directory: &str) -> Result<Option<Record>, Error> {
        let path = self.record_path(directory);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| failed("read", &path)(error.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed("read", &path)(source)),
        }
    }

    /// Does one step in a directory.
    pub fn perform(&mut self, directory: &str, step: &Step) -> Result<(), Error> {
        let place = self.root.join(directory);
        let backup = self.backup_root().join(directory);
        match step {
            Step::Save { file } => {
                self.make_directory(&backup)?;
                self.copy(&place.join(file), &backup.join(file))
            }
            Step::Record(record) => {
                let root = self.backup_root();
                self.make_directory(&root)?;
                // A record is plain data.
                let text = serde_json::to_string(record).unwrap_or_default();
                self.write(&self.record_path(directory), text.as_bytes(), None)
            }
            Step::MakeDirectory => self.make_directory(&place),
            Step::Write {
                file,
                text,
                confidential,
            } => {
                let permissions = confidential.then(|| fs::Permissions::from_mode(FOR_ROOT));
                self.write(&place.join(file), text.as_bytes(), permissions)
            }
            Step::PutBack { file } => {
                self.make_directory(&place)?;
                self.copy(&backup.join(file), &place.join(file))
            }
            Step::Remove { file } => self.remove_file(&place.join(file)),
            Step::RemoveDirectory => self.remove_directory(&place),
            Step::Forget => {
                self.remove_file(&self.record_path(directory))?;
                self.remove_tree(&backup)
            }
        }
    }

    /// Removes what only the agent's work needed, once no directory is changed any more.
    pub fn tidy(&mut self) -> Result<(), Error> {
        if !self.recorded()?.is_empty() {
            return Ok(());
        }
        let root = self.backup_root();
        self.remove_tree(&root)
    }

    fn backup_root(&self) -> PathBuf {
        self.root.join(BACKUP)
    }

    fn record_path(&self, directory: &str) -> PathBuf {
        self.backup_root().join(format!("{directory}{RECORD}"))
    }

    fn make_directory(&mut self, path: &Path) -> Result<(), Error> {
        if path.is_dir() {
            return Ok(());
        }
        self.ask("create", path)?;
        fs::create_dir_all(path).map_err(failed("create", path))?;
        self.sync_parent(path)
    }

    /// A copy with the same permissions; of a link, the link.
    fn copy(&mut self, from: &Path, to: &Path) -> Result<(), Error> {
        let metadata = fs::symlink_metadata(from).map_err(failed("read", from))?;
        if metadata.is_symlink() {
            let target = fs::read_link(from).map_err(failed("read", from))?;
            let temporary = self.temporary()?;
            self.ask("create", &temporary)?;
            symlink(&target, &temporary).map_err(failed("create", &temporary))?;
            return self.rename(&temporary, to);
        }
        let content = fs::read(from).map_err(failed("read", from))?;
        self.write(to, &content, Some(metadata.permissions()))
    }

    /// Write, sync, rename, sync: who opens the file finds the old or the new content, after a crash too.
    fn write(
        &mut self,
        path: &Path,
        content: &[u8],
        permissions: Option<fs::Permissions>,
    ) -> Result<(), Error> {
        let temporary = self.temporary()?;
        self.ask("create", &temporary)?;
        let mut file = File::create_new(&temporary).map_err(failed("create", &temporary))?;
        self.ask("write", &temporary)?;
        // Before anything is in it that not everybody may read.
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)
                .map_err(failed("write", &temporary))?;
        }
        file.write_all(content)
            .map_err(failed("write", &temporary))?;
        self.ask("sync", &temporary)?;
        file.sync_all().map_err(failed("sync", &temporary))?;
        self.rename(&temporary, path)
    }

    /// A name for a file in the making. What an earlier crash left there is removed.
    fn temporary(&mut self) -> Result<PathBuf, Error> {
        let path = self.backup_root().join("temporary");
        self.remove_file(&path)?;
        Ok(path)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Error> {
        self.ask("rename to", to)?;
        fs::rename(from, to).map_err(failed("rename to", to))?;
        self.sync_parent(to)
    }

    fn remove_file(&mut self, path: &Path) -> Result<(), Error> {
        if !path.exists() && !path.is_symlink() {
            return Ok(());
        }
        self.ask("remove", path)?;
        fs::remove_file(path).map_err(failed("remove", path))?;
        self.sync_parent(path)
    }

    fn remove_directory(&mut self, path: &Path) -> Result<(), Error> {
        self.ask("remove", path)?;
        match fs::remove_dir(path) {
            Ok(()) => self.sync_parent(path),
            // Somebody else put something into it, or removed it.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound
                ) =>
            {
                Ok(())
            }
            Err(source) => Err(failed("remove", path)(source)),
        }
    }

    fn remove_tree(&mut self, path: &Path) -> Result<(), Error> {
        if !path.exists() {
            return Ok(());
        }
        self.ask("remove", path)?;
        fs::remove_dir_all(path).map_err(failed("remove", path))?;
        self.sync_parent(path)
    }

    fn sync_parent(&mut self, path: &Path) -> Result<(), Error> {
        let parent = path.parent().unwrap_or(&self.root).to_owned();
        self.ask("sync", &parent)?;
        let directory = File::open(&parent).map_err(failed("open", &parent))?;
        directory.sync_all().map_err(failed("sync", &parent))
    }

    fn ask(&mut self, action: &'static str, path: &Path) -> Result<(), Error> {
        (self.gate)().map_err(failed(action, path))
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests;
