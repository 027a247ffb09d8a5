//! `docs/troubleshooting.md`, made of the list of checks.

use std::fmt::Write as _;

use crate::checks::{ALL, Check, Programs};

const HEAD: &str = "\
# Troubleshooting

<!-- Made from the list of checks (crates/doctor/src/checks.rs): change it there. -->

`clat doctor` on a host without IPv4 and `plat doctor` on the gateway look at what can be wrong, take about
a second, and say for each fault what to do:

```
$ clat doctor
ok    tun: /dev/net/tun opens
FAIL  prefix: 2001:db8:bad::/96 is configured, the router fe80::1 announces 2001:db8:64::/96
      -> leave --prefix away, or give the one that the network announces
then  path: 192.0.0.8 does not answer (follows from prefix)
clat doctor: 1 failed, 0 warnings, 1 follow from that, 14 ok
```

| word | meaning |
|---|---|
| `ok` | it was looked at and is as it should be |
| `FAIL` | IPv4 does not work because of it |
| `warn` | some packets are lost, or it may become a fault |
| `then` | it does not work, and a fault above explains it |
| `skip` | it could not be looked at, or does not matter here; the reason is named |

The exit code is 0 without a fault, 1 with warnings alone and 2 with a fault that stops IPv4 (also for a wrong
command line, which prints nothing on standard output). `--json` prints one object with `schema`, `faults`
(identifiers) and `checks`. Without a running daemon doctor looks at the host and the network as a start would
find them. Nothing is changed.

Give `--target ADDR:PORT` with an IPv4 host that is known to answer, to measure beyond the NAT64.
`--seconds N` gives slow networks more time. Both programs say less without root.
";

/// The text of the document.
pub fn troubleshooting() -> String {
    let mut text = String::from(HEAD);
    text += "\n## The checks\n\n| check | in | question |\n|---|---|---|\n";
    for check in ALL {
        let (id, question) = (check.id, check.question);
        // Writing into a string does not fail.
        let _ = writeln!(text, "| [`{id}`](#{id}) | {} | {question} |", of(check));
    }
    for check in ALL {
        let _ = write!(
            text,
            "\n### {}\n\n{}\n\n",
            check.id,
            wrapped(check.question)
        );
        let _ = write!(text, "{}\n\n", wrapped(check.means));
        let _ = writeln!(
            text,
            "{}",
            wrapped(&format!("What to do: {}.", check.remedy))
        );
        if !check.follows.is_empty() {
            let causes: Vec<_> = check.follows.iter().map(|id| format!("`{id}`")).collect();
            let line = format!(
                "No fault of its own while one of these fails: {}.",
                causes.join(", ")
            );
            let _ = write!(text, "\n{}\n", wrapped(&line));
        }
    }
    text
}

fn of(check: &Check) -> &'static str {
    match check.programs {
        Programs::Clat => "`clat`",
        Programs::Plat => "`plat`",
        Programs::Both => "both",
    }
}

/// Lines of at most 110 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut();
        match last {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= 110 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
