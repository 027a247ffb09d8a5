//! Kernel parameters: set, set to another value, and set back to what they were.

use std::io::ErrorKind;

use tracing::info;

use super::Applied;
use crate::host::error::Error;
use crate::host::journal::Undo;
use crate::host::sysctl;

impl Applied {
    /// The value of a kernel parameter before this process changed it; `None` if the kernel does
    /// not have the parameter.
    pub fn sysctl_before(&self, key: &str) -> Option<String> {
        let mut before = self.journal.entries().filter_map(|undo| match undo {
            Undo::Sysctl { key: of, was, .. } => (of == key).then(|| was.clone()),
            Undo::Address(_)
            | Undo::Route(_)
            | Undo::Rule(_)
            | Undo::Proxy { .. }
            | Undo::Table(_) => None,
        });
        before.next().or_else(|| self.host.sysctl(key))
    }

    /// Leaves a parameter that this process has set to other programs, which want the same value.
    /// It stays when this process ends. True if it was this process's.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn leave_sysctl(&mut self, key: &str) -> Result<bool, Error> {
        let mut entries = self.journal.entries();
        let ours = entries.find(|undo| matches!(undo, Undo::Sysctl { key: of, .. } if of == key));
        match ours.cloned() {
            Some(undo) => self.journal.forget(&undo).map(|()| true),
            None => Ok(false),
        }
    }

    /// Sets a parameter again that another program has changed. True if it was. A missing interface
    /// has no parameters to repair.
    pub(super) fn repair_sysctl(&mut self, key: &str, value: &str) -> Result<bool, Error> {
        if sysctl::read(key).is_ok_and(|now| now == value) || !sysctl::exists(key) {
            return Ok(false);
        }
        let mut entries = self.journal.entries();
        if entries.any(|undo| matches!(undo, Undo::Sysctl { key: of, .. } if of == key)) {
            sysctl::write(key, value).map_err(|source| Error::Sysctl {
                key: key.into(),
                value: Some(value.into()),
                source,
            })?;
        } else {
            // It had our value before, or was left to others: from now on it is ours to undo.
            self.set_sysctl(key, value)?;
        }
        Ok(true)
    }

    pub(super) fn set_sysctl(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::PermissionDenied => Error::Permission {
                what: format!("sysctl {key}={value}"),
            },
            _ => Error::Sysctl {
                key: key.into(),
                value: Some(value.into()),
                source,
            },
        };
        let was = sysctl::read(key).map_err(failed)?;
        if was == value {
            return Ok(());
        }
        let (key, ours) = (key.to_owned(), value.to_owned());
        self.journal.record(Undo::Sysctl {
            key: key.clone(),
            ours,
            was,
        })?;
        sysctl::write(&key, value).map_err(failed)
    }

    /// Changes a parameter that this process has set before. Undoing restores the original value.
    pub(super) fn replace_sysctl(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let mut entries = self.journal.entries().rev();
        let ours = entries.find(|undo| matches!(undo, Undo::Sysctl { key: of, .. } if of == key));
        let Some(Undo::Sysctl { was, .. }) = ours else {
            return self.set_sysctl(key, value);
        };
        let (replaced, was) = (ours.cloned(), was.clone());
        let failed = |source| Error::Sysctl {
            key: key.into(),
            value: Some(value.into()),
            source,
        };
        self.journal.record(Undo::Sysctl {
            key: key.into(),
            ours: value.into(),
            was,
        })?;
        sysctl::write(key, value).map_err(failed)?;
        replaced.map_or(Ok(()), |undo| self.journal.forget(&undo))
    }
}

/// Restores the original value of a parameter, unless another program has changed it meanwhile.
pub(super) fn restore_sysctl(key: &str, ours: &str, was: &str) -> Result<(), Error> {
    match sysctl::read(key) {
        // The parameters disappeared together with the interface.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Sysctl {
            key: key.into(),
            value: None,
            source,
        }),
        Ok(now) if now != ours => {
            info!("sysctl {key} is {now}, another program changed our {ours}: left alone");
            Ok(())
        }
        Ok(_) => sysctl::write(key, was).map_err(|source| Error::Sysctl {
            key: key.into(),
            value: Some(was.into()),
            source,
        }),
    }
}
