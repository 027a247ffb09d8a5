//! Fenced blocks of a page in Markdown, and the commands in them.

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line of the opening fence, from 1.
    pub line: usize,
    /// The info string.
    pub info: String,
    /// What is between the fences.
    pub text: String,
}

/// A command, and the output that the page shows below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What is typed.
    pub text: String,
    /// Lines of the output, without empty ones.
    pub expected: Vec<String>,
}

/// The fenced blocks of a page, in their order.
#[must_use]
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(Block, usize)> = None;
    for (number, line) in page.lines().enumerate() {
        let ticks = line.trim_start().bytes().take_while(|&b| b == b'`').count();
        match &mut open {
            None if ticks >= 3 => {
                let block = Block {
                    line: number + 1,
                    info: line.trim_start()[ticks..].trim().to_owned(),
                    text: String::new(),
                };
                open = Some((block, ticks));
            }
            Some((_, fence)) if ticks >= *fence && line.trim().len() == ticks => {
                blocks.extend(open.take().map(|(block, _)| block));
            }
            Some((block, _)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    blocks
}

impl Block {
    /// The language.
    #[must_use]
    pub fn language(&self) -> &str {
        self.info.split_whitespace().next().unwrap_or_default()
    }

    /// The value of `key=value` in the info string.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        let mut pairs = self
            .info
            .split_whitespace()
            .filter_map(|word| word.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Whether the info string has this word.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.info.split_whitespace().skip(1).any(|one| one == word)
    }

    /// In a `console` block what stands behind `$ `, with the output below it; any other block is one
    /// script.
    #[must_use]
    pub fn commands(&self) -> Vec<Command> {
        if self.language() != "console" {
            return vec![Command {
                text: self.text.clone(),
                expected: Vec::new(),
            }];
        }
        let mut commands: Vec<Command> = Vec::new();
        for line in self.text.lines() {
            let unfinished = commands
                .last_mut()
                .filter(|one| one.expected.is_empty() && one.text.ends_with('\\'));
            match (unfinished, line.strip_prefix("$ ")) {
                (Some(command), _) => {
                    command.text.push('\n');
                    command.text.push_str(line);
                }
                (None, Some(text)) => commands.push(Command {
                    text: text.to_owned(),
                    expected: Vec::new(),
                }),
                (None, None) if line.trim().is_empty() => {}
                (None, None) => {
                    if let Some(command) = commands.last_mut() {
                        command.expected.push(line.to_owned());
                    }
                }
            }
        }
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_words_and_commands() {
        let page = "text\n```console run=a on=b stays\n$ one \\\n  two\nseen\n\n$ three\n```\n\
                    ````text\n```sh\n````\n```sh not-run\nx\n```\n";
        let found = blocks(page);
        let infos: Vec<&str> = found.iter().map(|block| &*block.info).collect();
        assert_eq!(infos, ["console run=a on=b stays", "text", "sh not-run"]);
        assert_eq!(found[0].line, 2);
        assert_eq!(found[0].value("on"), Some("b"));
        assert!(found[0].has("stays") && !found[0].has("fails"));
        let commands = found[0].commands();
        assert_eq!(commands[0].text, "one \\\n  two");
        assert_eq!(commands[0].expected, ["seen"]);
        assert_eq!(commands[1].text, "three");
        assert_eq!(found[1].text, "```sh\n");
        assert_eq!(found[2].commands()[0].text, "x\n");
    }
}
