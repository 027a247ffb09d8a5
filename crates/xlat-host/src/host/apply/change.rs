//! Leads the host from one plan to another: what is new comes before what is old goes.

use tracing::debug;

use super::Applied;
use crate::host::error::Error;
use crate::host::plan::{Coming, Difference, Plan, Step};

impl Applied {
    /// Carries out what `difference` adds, in order. What is in the place of something else replaces
    /// it, so that no packet finds neither; only a table goes on to know what the old one knew.
    ///
    /// # Errors
    /// The first change that fails; [`call_off`](Self::call_off) takes back those before it.
    pub async fn bring(&mut self, difference: &Difference) -> Result<(), Error> {
        for coming in &difference.come {
            match coming {
                Coming::New(step) => {
                    debug!("{step}");
                    self.carry_out(step).await?;
                }
                Coming::InPlace { old, new } => {
                    debug!("{new}");
                    self.replace(old, &beside(old, new)).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes back what `difference` removes, last first. What it adds was brought before.
    ///
    /// # Errors
    /// The first change that cannot be taken back; the others behind it stay.
    pub async fn retire(&mut self, difference: &Difference) -> Result<(), Error> {
        self.retract(&difference.go).await?;
        for coming in &difference.come {
            match coming {
                Coming::InPlace { old, new } if beside(old, new) != *new => {
                    self.replace(old, new).await?;
                }
                Coming::InPlace { .. } | Coming::New(_) => {}
            }
        }
        Ok(())
    }

    /// Takes back what was brought of `difference`: the host is as before.
    ///
    /// # Errors
    /// The first change that cannot be taken back.
    pub async fn call_off(&mut self, difference: &Difference) -> Result<(), Error> {
        for coming in difference.come.iter().rev() {
            match coming {
                Coming::New(step) => self.retract_step(step).await?,
                Coming::InPlace { old, new } => self.replace(new, old).await?,
            }
        }
        Ok(())
    }

    /// Makes the host that `difference` leads to: what is new comes before what is old goes.
    ///
    /// # Errors
    /// The first change that fails.
    pub async fn change(&mut self, difference: &Difference) -> Result<(), Error> {
        self.bring(difference).await?;
        self.retire(difference).await
    }

    /// Takes back the steps of `plan` that were carried out, last first, and leaves the rest.
    async fn retract(&mut self, plan: &Plan) -> Result<(), Error> {
        for step in plan.steps().iter().rev() {
            self.retract_step(step).await?;
        }
        Ok(())
    }

    async fn retract_step(&mut self, step: &Step) -> Result<(), Error> {
        let mut entries = self.journal.entries().iter().rev();
        let Some(undo) = entries.find(|undo| undo.is_of(step)).cloned() else {
            return Ok(());
        };
        debug!("taking back: {step}");
        self.take_back_one(&undo).await?;
        self.journal.forget(&undo)
    }

    /// Puts `new` where `old` is, which has the same place.
    async fn replace(&mut self, old: &Step, new: &Step) -> Result<(), Error> {
        match new {
            Step::Table { table, optional } => self.make_table(table, optional.as_deref()),
            Step::Sysctl { key, value } => self.replace_sysctl(key, value),
            Step::Route(_) => {
                let mut entries = self.journal.entries().iter();
                let replaced = entries.find(|undo| undo.is_of(old)).cloned();
                self.carry_out(new).await?;
                match replaced {
                    Some(undo) if old != new => self.journal.forget(&undo),
                    _ => Ok(()),
                }
            }
            Step::Tun { .. } => self.carry_out(new).await,
            // Only what is equal has the same place: there is nothing to do.
            Step::Up { .. } | Step::Address(_) | Step::Claim { .. } | Step::Proxy { .. } => Ok(()),
        }
    }
}

/// While both are wanted a table knows what either does; all else is the new one from the start.
fn beside(old: &Step, new: &Step) -> Step {
    match new {
        Step::Table { table, optional } => Step::Table {
            table: match old {
                Step::Table { table: old, .. } => table.and_rules_of(old),
                _ => table.clone(),
            },
            optional: optional.clone(),
        },
        Step::Tun { .. }
        | Step::Up { .. }
        | Step::Sysctl { .. }
        | Step::Address(_)
        | Step::Claim { .. }
        | Step::Route(_)
        | Step::Proxy { .. } => new.clone(),
    }
}
