//! The flags of `cargo lab bench`.

use std::path::PathBuf;

use clap::Args;

/// What to measure, and for how long.
#[derive(Debug, Args)]
pub struct Bench {
    /// Rounds over all cases; the table has medians.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,

    /// Time of each load in milliseconds.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub millis: u64,

    /// Measure the DNS64 instead: answers that it has kept.
    #[arg(long)]
    pub dns64: bool,

    /// Only this case, by its name in the table; several times.
    #[arg(long, value_name = "CASE")]
    pub only: Vec<String>,

    /// One more stateful plat, with these flags; several times.
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub plat_flag: Vec<String>,

    /// One more clat and plat, with these flags of clat; several times.
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub clat_flag: Vec<String>,

    /// A TAYGA besides those in /usr/sbin and in PATH; several times.
    #[arg(long, value_name = "PROGRAM")]
    pub tayga: Vec<PathBuf>,

    /// Write a bar chart (SVG) to this file.
    #[arg(long, value_name = "FILE")]
    pub chart: Option<PathBuf>,
}

impl Bench {
    /// The command that gives the same table, with everything that was left to the defaults.
    pub(crate) fn command(&self) -> String {
        let Self { rounds, millis, .. } = self;
        let mut command = format!("`cargo lab bench --rounds {rounds} --millis {millis}");
        let taygas = self.tayga.iter().map(|path| path.display().to_string());
        for (flag, values) in [
            ("plat-flag", self.plat_flag.clone()),
            ("clat-flag", self.clat_flag.clone()),
            ("tayga", taygas.collect()),
            ("only", self.only.clone()),
        ] {
            for value in values {
                command += &format!(" --{flag}='{value}'");
            }
        }
        command + "`"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: Bench,
    }

    #[test]
    fn a_benchmark_says_how_to_repeat_it() {
        let line = [
            "bench",
            "--plat-flag=--nice -10",
            "--plat-flag=--queues 1",
            "--only=TAYGA",
        ];
        assert_eq!(
            Line::parse_from(line).bench.command(),
            "`cargo lab bench --rounds 3 --millis 1000 --plat-flag='--nice -10' \
             --plat-flag='--queues 1' --only='TAYGA'`"
        );
    }
}
