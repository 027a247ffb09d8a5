//! The program in the kernel on the inputs of the fuzz targets, where this process may load it: what it
//! carries is what the translator makes of it.

use std::cell::RefCell;

use fast_path::{Options, Outcome, Rules, StaticMapping, Trial};
use xlat_core::Policy;

/// The program, and what it was told last.
struct Told {
    trial: Trial,
    last: Option<(Policy, StaticMapping)>,
}

thread_local! {
    /// `None` where it cannot be loaded.
    static TOLD: RefCell<Option<Told>> = RefCell::new(load());
}

fn load() -> Option<Told> {
    let options = Options {
        flows: 1,
        ..Options::new([5, 7], 1)
    };
    let trial = Trial::load(None, &options).ok()?;
    Some(Told { trial, last: None })
}

/// Runs the program on a packet, with the mapping and the policy that the translator has.
///
/// # Panics
/// If it carries what the translator does not forward (`None`), or makes other bytes of it.
pub(crate) fn compare(
    policy: &Policy,
    mapping: &StaticMapping,
    packet: &[u8],
    translated: Option<&[u8]>,
) {
    // The kernel takes no more than a page.
    if packet.len() > 3000 {
        return;
    }
    TOLD.with_borrow_mut(|told| {
        let Some(Told { trial, last }) = told else {
            return;
        };
        // Most inputs in a row have the same.
        let is_known = last
            .as_ref()
            .is_some_and(|(known, mapped)| (known, mapped) == (policy, mapping));
        if !is_known {
            let rules = Rules::from(policy);
            if trial.program.configure(&rules, Some(mapping)).is_err() {
                *last = None;
                return;
            }
            *last = Some((policy.clone(), mapping.clone()));
        }
        match trial.run(packet) {
            Outcome::PassedUp | Outcome::NotOffered => {}
            Outcome::Broken(how) => panic!("{how}: {packet:02x?}"),
            Outcome::Carried(carried) => {
                let translated =
                    translated.unwrap_or_else(|| panic!("not forwarded: {packet:02x?}"));
                assert_eq!(
                    without_id(&carried),
                    without_id(translated),
                    "{packet:02x?}"
                );
            }
        }
    });
}

/// A packet without the identification, and the header checksum, of one that may be cut behind us: its
/// numbers come from another lane.
fn without_id(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 && packet[6] & 0x40 == 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}
