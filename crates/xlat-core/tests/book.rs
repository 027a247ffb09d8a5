//! The documents as a book: links lead somewhere, the table of contents is whole, commands say
//! whether a test runs them, and the field's words are spelt one way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "this test reads the tree")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Words with one spelling, wherever they are not code.
const FIELD: &[&str] = &[
    "464XLAT",
    "AAAA",
    "BEHAVE",
    "BIRD",
    "DAD",
    "DHCPv6",
    "DNS64",
    "DNSSEC",
    "Debian",
    "eBPF",
    "EDNS",
    "FRR",
    "GitHub",
    "ICMP",
    "ICMPv4",
    "ICMPv6",
    "IPv4",
    "IPv6",
    "Jool",
    "Kubernetes",
    "Linux",
    "MTU",
    "NAT44",
    "NAT64",
    "NAT66",
    "NetworkManager",
    "OpenWrt",
    "RFC",
    "SIIT",
    "SLAAC",
    "TAYGA",
    "TCP",
    "TLS",
    "TUN",
    "Tundra",
    "UDP",
    "WireGuard",
    "nftables",
    "systemd",
];

/// Mistakes that fingers make.
const MISSPELT: &[&str] = &[
    "accomodate",
    "acheive",
    "adress",
    "adresses",
    "adverstisement",
    "agressive",
    "allready",
    "alot",
    "alway",
    "appearence",
    "apropriate",
    "arguement",
    "assigment",
    "availible",
    "becuase",
    "begining",
    "beleive",
    "charachter",
    "comming",
    "commited",
    "comparision",
    "compatability",
    "configuartion",
    "connnection",
    "consistant",
    "defualt",
    "definately",
    "dependant",
    "diffrent",
    "dissapear",
    "existance",
    "explicitely",
    "fragement",
    "funtion",
    "garantee",
    "guarentee",
    "happend",
    "hierachy",
    "immediatly",
    "implemention",
    "independant",
    "infomation",
    "intial",
    "interupt",
    "langauge",
    "lenght",
    "maintainance",
    "managment",
    "neccessary",
    "neigbour",
    "noticable",
    "occured",
    "occurence",
    "ocurred",
    "orginal",
    "paramter",
    "particulary",
    "persistant",
    "posible",
    "preceeding",
    "prefered",
    "privelege",
    "proccess",
    "propogate",
    "prefixs",
    "realy",
    "recieve",
    "recieved",
    "refered",
    "relevent",
    "resouce",
    "responce",
    "seperate",
    "seperately",
    "shoud",
    "similiar",
    "sucess",
    "succesful",
    "successfull",
    "suport",
    "teh",
    "thier",
    "tranlate",
    "transfered",
    "translater",
    "truely",
    "untill",
    "usefull",
    "usally",
    "wether",
    "wich",
    "withing",
    "writting",
];

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let anchors: BTreeMap<PathBuf, BTreeSet<String>> = pages()
        .iter()
        .map(|page| (canonical(page), headings(&read(page))))
        .collect();
    let mut faults = Vec::new();
    for page in pages() {
        let folder = page.parent().unwrap();
        for link in links(&read(&page)) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.clone(),
                path => folder.join(path),
            };
            let known = anchors.get(&canonical(&target));
            let is_there = target.exists()
                && (anchor.is_empty() || known.is_some_and(|all| all.contains(anchor)));
            if !is_there {
                faults.push(format!("{}: {link}", shown(&page)));
            }
        }
    }
    assert!(faults.is_empty(), "links to nowhere: {faults:#?}");
}

#[test]
fn links_and_headings_are_read_as_a_renderer_reads_them() {
    let page = "# A `b`: c, d_e!\n## Twice\n## Twice\n[x](a.md#b) ![p](p.svg) [y][ref] `[no](z)`\n\
                [web](https://example.org)\n```\n# no\n[no](no.md)\n```\n[ref]: r.md\n\
                <img src=\"i.svg\">\n";
    let found: Vec<String> = links(page);
    assert_eq!(found, ["a.md#b", "p.svg", "r.md", "i.svg"]);
    let found: Vec<String> = headings(page).into_iter().collect();
    assert_eq!(found, ["a-b-c-d_e", "twice", "twice-1"]);
}

#[test]
fn the_table_of_contents_has_every_page_once() {
    let docs = root().join("docs");
    let mut listed = links(&read(&docs.join("SUMMARY.md")));
    listed.sort();
    let mut expected: Vec<String> = fs::read_dir(&docs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md") && name != "SUMMARY.md")
        .collect();
    expected.sort();
    assert_eq!(listed, expected, "docs/SUMMARY.md");
}

/// `run=SCENE` (with `cargo lab page`) or `not-run`.
#[test]
fn every_block_of_commands_says_whether_it_is_run() {
    let mut faults = Vec::new();
    for page in pages() {
        let mut is_open = false;
        for (number, line) in read(&page).lines().enumerate() {
            let Some(info) = line.trim_start().strip_prefix("```") else {
                continue;
            };
            is_open = !is_open;
            let mut words = info.split_whitespace();
            let is_shell = matches!(words.next(), Some("sh" | "bash" | "console"));
            let is_marked = words.any(|word| word == "not-run" || word.starts_with("run="));
            if is_open && is_shell && !is_marked {
                faults.push(format!("{}:{}", shown(&page), number + 1));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "neither `run=SCENE` nor `not-run`: {faults:#?}"
    );
}

#[test]
fn the_words_of_the_field_are_spelt_one_way() {
    let mut faults = Vec::new();
    for page in pages() {
        let text = read(&page);
        let wrong = prose(&text).flat_map(|line| misspelt(&line));
        faults.extend(wrong.map(|word| format!("{}: {word}", shown(&page))));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_word_that_is_misspelt_is_found() {
    let text = "An Ipv4 adress, `Ipv4`, [a](Nat64.md), IPv6-only\n```\nrecieve\n```\nNat64";
    let found: Vec<String> = prose(text).flat_map(|line| misspelt(&line)).collect();
    assert_eq!(found, ["Ipv4", "adress", "Nat64"]);
}

/// Names in lower case may be those of files, and capitals may be a heading.
fn misspelt(line: &str) -> Vec<String> {
    let words = line.split(|c: char| !c.is_alphanumeric());
    let wrong = words.filter(|word| {
        let is_mixed = word.chars().any(|c| c.is_ascii_uppercase())
            && word.chars().any(|c| c.is_ascii_lowercase());
        let other = |known: &&str| known.eq_ignore_ascii_case(word) && known != word;
        is_mixed && FIELD.iter().any(other) || MISSPELT.contains(&&*word.to_lowercase())
    });
    wrong.map(str::to_owned).collect()
}

/// Lines outside code blocks, without code, targets of links and HTML.
fn prose(page: &str) -> impl Iterator<Item = String> {
    let mut is_code = false;
    let lines = page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.starts_with('[')
    });
    lines.map(|line| {
        let plain: Vec<&str> = line.split('`').step_by(2).collect();
        let mut text = String::new();
        for part in plain.join(" ").split("](") {
            let rest = if text.is_empty() {
                part
            } else {
                part.split_once(')').map_or(part, |(_, rest)| rest)
            };
            text.push_str(rest);
            text.push(' ');
        }
        let is_html = text.trim_start().starts_with('<');
        if is_html { String::new() } else { text }
    })
}

/// Targets of links and pictures that are not on the web.
fn links(page: &str) -> Vec<String> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in page.lines() {
        is_code ^= line.trim_start().starts_with("```");
        if is_code {
            continue;
        }
        let plain: Vec<&str> = line.split('`').step_by(2).collect();
        let plain = plain.join("``");
        let inline = plain.split("](").skip(1);
        found.extend(
            inline.filter_map(|rest| rest.split_once(')').map(|(link, _)| link.to_owned())),
        );
        let defined = line.split_once("]: ").filter(|_| line.starts_with('['));
        found.extend(defined.map(|(_, link)| link.trim().to_owned()));
        for attribute in ["src=\"", "srcset=\"", "href=\""] {
            let rest = plain.split(attribute).skip(1);
            found.extend(
                rest.filter_map(|rest| rest.split_once('"').map(|(link, _)| link.to_owned())),
            );
        }
    }
    found.retain(|link| !link.contains("://") && !link.starts_with("mailto:"));
    found
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn headings(page: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut anchors = BTreeSet::new();
    for line in page.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let text = line.trim_start_matches('#');
        if is_code || text.len() == line.len() || !text.starts_with(' ') {
            continue;
        }
        let kept = text.trim().chars().filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        });
        let anchor: String = kept.collect();
        let mut unique = anchor.clone();
        let mut count = 0;
        while !anchors.insert(unique.clone()) {
            count += 1;
            unique = format!("{anchor}-{count}");
        }
    }
    anchors
}

/// What readers read: the pages of the root, of `docs/`, `examples/` and `packaging/`.
fn pages() -> Vec<PathBuf> {
    let root = root();
    let mut pages = Vec::new();
    for folder in ["docs", "examples", "packaging"] {
        below(&root.join(folder), &mut pages);
    }
    let names = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ];
    pages.extend(names.map(|name| root.join(name)));
    pages.sort();
    pages
}

fn below(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, pages);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            pages.push(path);
        }
    }
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
