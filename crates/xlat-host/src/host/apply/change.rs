//! Changes the host from one plan to another: new steps are applied before old ones are undone.

use tracing::debug;

use super::Applied;
use crate::host::error::Error;
use crate::host::plan::{Addition, Difference, Plan, Step};

impl Applied {
    /// Applies the additions of `difference`, in order. A step with the place of an old one
    /// replaces it, so that every packet finds one of them; a table keeps the rules of the old one
    /// for now.
    ///
    /// # Errors
    /// The first change that fails; [`call_off`](Self::call_off) undoes those before it.
    pub async fn bring(&mut self, difference: &Difference) -> Result<(), Error> {
        for addition in &difference.additions {
            match addition {
                Addition::New(step) => {
                    debug!("{step}");
                    self.carry_out(step).await?;
                }
                Addition::Replacement { old, new } => {
                    debug!("{new}");
                    self.replace(old, &transitional(old, new)).await?;
                }
            }
        }
        Ok(())
    }

    /// Undoes the removals of `difference`, last first, after [`bring`](Self::bring).
    ///
    /// # Errors
    /// The first change that cannot be undone; those after it stay.
    pub async fn retire(&mut self, difference: &Difference) -> Result<(), Error> {
        self.retract(&difference.removals).await?;
        for addition in &difference.additions {
            match addition {
                Addition::Replacement { old, new } if transitional(old, new) != *new => {
                    self.replace(old, new).await?;
                }
                Addition::Replacement { .. } | Addition::New(_) => {}
            }
        }
        Ok(())
    }

    /// Undoes the additions of `difference`: the host is as before [`bring`](Self::bring).
    ///
    /// # Errors
    /// The first change that cannot be undone.
    pub async fn call_off(&mut self, difference: &Difference) -> Result<(), Error> {
        for addition in difference.additions.iter().rev() {
            match addition {
                Addition::New(step) => self.retract_step(step).await?,
                Addition::Replacement { old, new } => self.replace(new, old).await?,
            }
        }
        Ok(())
    }

    /// Applies `difference`: its additions, then its removals.
    ///
    /// # Errors
    /// The first change that fails.
    pub async fn change(&mut self, difference: &Difference) -> Result<(), Error> {
        self.bring(difference).await?;
        self.retire(difference).await
    }

    /// Undoes the steps of `plan` that are in the journal, last first, and leaves the rest.
    async fn retract(&mut self, plan: &Plan) -> Result<(), Error> {
        for step in plan.steps().iter().rev() {
            self.retract_step(step).await?;
        }
        Ok(())
    }

    async fn retract_step(&mut self, step: &Step) -> Result<(), Error> {
        let mut entries = self.journal.entries().rev();
        let Some(undo) = entries.find(|undo| undo.is_of(step)).cloned() else {
            return Ok(());
        };
        debug!("undoing: {step}");
        self.undo_entry(&undo).await?;
        self.journal.forget(&undo)
    }

    /// Replaces `old` by `new`, which has the same place.
    async fn replace(&mut self, old: &Step, new: &Step) -> Result<(), Error> {
        match new {
            Step::Table { table, optional } => self.make_table(table, optional.as_deref()),
            Step::Sysctl { key, value } => self.replace_sysctl(key, value),
            Step::Route(_) => {
                let mut entries = self.journal.entries();
                let replaced = entries.find(|undo| undo.is_of(old)).cloned();
                self.carry_out(new).await?;
                match replaced {
                    Some(undo) if old != new => self.journal.forget(&undo),
                    _ => Ok(()),
                }
            }
            Step::Tun { .. } => self.carry_out(new).await,
            // These have the same place only if they are equal: there is nothing to do.
            Step::Up { .. }
            | Step::Address(_)
            | Step::Claim { .. }
            | Step::Rule(_)
            | Step::Neighbour { .. }
            | Step::Proxy { .. } => Ok(()),
        }
    }
}

/// The step to apply while both plans are in force: a table has the rules of both; any other step
/// is the new one.
fn transitional(old: &Step, new: &Step) -> Step {
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
        | Step::Rule(_)
        | Step::Neighbour { .. }
        | Step::Proxy { .. } => new.clone(),
    }
}
