//! The program on single packets, without an interface (`BPF_PROG_TEST_RUN`): for tests.

use aya::TestRunOptions;
use aya::programs::TestRun;

use crate::program::{FastPath, Options};
use crate::unavailable::Unavailable;

/// What the program did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It left it to the worker, as it came.
    PassedUp,
    /// It translated it to this one.
    Carried(Vec<u8>),
    /// The kernel does not offer such a packet to a program: it is shorter than its header.
    NotOffered,
    /// It did something else, which it never may.
    Broken(String),
}

/// A program that runs on packets as they are given.
#[derive(Debug)]
pub struct Trial {
    /// The program, to be configured.
    pub program: FastPath,
}

/// Bytes of the link layer's header, which a test run has in front of each packet.
const LINK_HEADER: usize = 14;

/// Bytes of a `struct __sk_buff`, and where its `gso_size` is.
const CONTEXT: usize = 192;
const GSO_SIZE: usize = 176;

/// `TC_ACT_OK`: the packet goes on into the TUN.
const PASS: u32 = 0;
/// `TC_ACT_REDIRECT`: the packet is handed back.
const REDIRECT: u32 = 7;

impl Trial {
    /// Loads the program; another object than that in the repository where one is given.
    ///
    /// # Errors
    /// Why the kernel does not take it.
    pub fn load(object: Option<&[u8]>, options: &Options) -> Result<Self, Unavailable> {
        let program = FastPath::load_for_test(object, options, LINK_HEADER as u32)?;
        Ok(Self { program })
    }

    /// Runs the program on an IP packet.
    pub fn run(&mut self, packet: &[u8]) -> Outcome {
        self.run_super(packet, 0)
    }

    /// The same on one that claims to be a super-packet with segments of so many bytes.
    pub fn run_super(&mut self, packet: &[u8], gso_size: u32) -> Outcome {
        let ether_type = match packet.first().map(|first| first >> 4) {
            Some(6) => [0x86, 0xdd],
            _ => [0x08, 0x00],
        };
        let input = [&[0; LINK_HEADER - 2], &ether_type[..], packet].concat();
        let mut output = vec![0; input.len() + 128];
        let mut context = [0; CONTEXT];
        context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&gso_size.to_ne_bytes());
        let options = TestRunOptions {
            ctx_in: (gso_size > 0).then_some(&context),
            data_in: Some(&input),
            data_out: Some(&mut output),
            ..TestRunOptions::default()
        };
        let classifier = self.program.classifier();
        let run = classifier.map(|classifier| classifier.test_run(options));
        let run = match run {
            Ok(Ok(run)) => run,
            Ok(Err(_)) if packet.len() < 40 => return Outcome::NotOffered,
            Ok(Err(error)) => return Outcome::Broken(error.to_string()),
            Err(error) => return Outcome::Broken(error.to_string()),
        };
        output.truncate(run.data_size_out as usize);
        match run.return_value {
            PASS if output == input => Outcome::PassedUp,
            PASS => Outcome::Broken("passed up, but not as it came".to_owned()),
            REDIRECT => Outcome::Carried(output.split_off(LINK_HEADER)),
            other => Outcome::Broken(format!("neither passed up nor handed back: {other}")),
        }
    }
}
