//! Text to nodes. One pass over the bytes; the blocks that are open stand on a stack, so nesting has a limit of its own.

use super::{Call, Node, Operand, OperandKind, Pipeline, function};
use serde_json::Value;

/// How deep blocks and parentheses may nest: more than anybody writes, less than a stack holds.
const MAX_DEPTH: usize = 64;

/// An opened block that waits for its `{{end}}`.
struct Block {
    kind: &'static str,
    pipeline: Pipeline,
    body: Vec<Node>,
    /// The nodes behind `{{else}}`, once it was seen.
    otherwise: Option<Vec<Node>>,
    /// `{{else if}}` opens a block that the same `{{end}}` closes.
    chained: bool,
    /// Variables that were known outside.
    known: usize,
}

struct Parser {
    open: Vec<Block>,
    root: Vec<Node>,
    variables: Vec<String>,
}

/// Reads a whole template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let mut parser = Parser { open: Vec::new(), root: Vec::new(), variables: vec![String::new()] };
    let (mut at, mut trim) = (0, false);
    while let Some(start) = text[at..].find("{{").map(|offset| at + offset) {
        let inner = start + 2;
        let end = action_end(text, inner).ok_or("unclosed action")?;
        let trims = |edge: &str| edge.len() > 1;
        let mut body = &text[inner..end];
        let mut offset = inner;
        let before = trims(body) && body.starts_with('-') && body[1..].starts_with([' ', '\t', '\n', '\r']);
        if before {
            body = &body[1..];
            offset += 1;
        }
        let after = body.ends_with('-') && body[..body.len() - 1].ends_with([' ', '\t', '\n', '\r']);
        if after {
            body = &body[..body.len() - 1];
        }
        parser.text(&text[at..start], trim, before);
        parser.action(body, offset)?;
        at = end + 2;
        trim = after;
    }
    parser.text(&text[at..], trim, false);
    if parser.open.is_empty() { Ok(parser.root) } else { Err("unexpected EOF".into()) }
}

/// Where the `}}` of an action stands, past comments and quoted text.
fn action_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let comment = text[start..].trim_start_matches(['-', ' ']).starts_with("/*");
    let mut at = start;
    if comment {
        at += text[start..].find("*/")? + 2;
    }
    let mut quote = None;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(b'"' | b'\''), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'' | b'`')) => quote = Some(byte),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

impl Parser {
    fn push(&mut self, node: Node) {
        match self.open.last_mut() {
            Some(block) => block.otherwise.as_mut().unwrap_or(&mut block.body).push(node),
            None => self.root.push(node),
        }
    }

    fn text(&mut self, text: &str, trim_start: bool, trim_end: bool) {
        let mut text = text;
        if trim_start {
            text = text.trim_start();
        }
        if trim_end {
            text = text.trim_end();
        }
        if !text.is_empty() {
            self.push(Node::Text(text.to_owned()));
        }
    }

    fn action(&mut self, body: &str, offset: usize) -> Result<(), String> {
        let inner = body.trim();
        if inner.starts_with("/*") && inner.ends_with("*/") {
            return Ok(());
        }
        let tokens = lex(body, offset)?;
        let word = match tokens.first() {
            Some(Token { kind: TokenKind::Word(word), .. }) => word.as_str(),
            _ => "",
        };
        match word {
            "if" | "range" | "with" => self.block(word, &tokens[1..], false),
            "else" => self.otherwise(&tokens[1..]),
            "end" if tokens.len() == 1 => self.end(),
            "break" | "continue" if tokens.len() == 1 => {
                if !self.open.iter().any(|block| block.kind == "range") {
                    return Err(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                self.push(if word == "break" { Node::Break } else { Node::Continue });
                Ok(())
            }
            "define" | "template" | "block" => {
                Err(format!("unexpected {{{{{word}}}}}: named templates are not supported"))
            }
            _ => {
                let pipeline = self.pipeline(&tokens, word)?;
                self.push(Node::Action(pipeline));
                Ok(())
            }
        }
    }

    fn block(&mut self, word: &str, tokens: &[Token], chained: bool) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err("blocks are nested too deeply".into());
        }
        let known = self.variables.len();
        let kind = match word {
            "if" => "if",
            "range" => "range",
            _ => "with",
        };
        let pipeline = self.pipeline(tokens, kind)?;
        self.open.push(Block { kind, pipeline, body: Vec::new(), otherwise: None, chained, known });
        Ok(())
    }

    fn otherwise(&mut self, tokens: &[Token]) -> Result<(), String> {
        let block = self.open.last_mut().filter(|block| block.otherwise.is_none()).ok_or("unexpected {{else}}")?;
        block.otherwise = Some(Vec::new());
        match tokens.first() {
            None => Ok(()),
            Some(Token { kind: TokenKind::Word(word), .. }) if word == "if" || word == "with" => {
                let word = word.clone();
                self.block(&word, &tokens[1..], true)
            }
            Some(token) => Err(format!("unexpected <{}> in else", token.text)),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        loop {
            let block = self.open.pop().ok_or("unexpected {{end}}")?;
            self.variables.truncate(block.known);
            let otherwise = block.otherwise.unwrap_or_default();
            let node = match block.kind {
                "if" => Node::If(block.pipeline, block.body, otherwise),
                "range" => Node::Range(block.pipeline, block.body, otherwise),
                _ => Node::With(block.pipeline, block.body, otherwise),
            };
            self.push(node);
            if !block.chained {
                return Ok(());
            }
        }
    }

    /// `[$a[, $b] :=] call { | call }`
    fn pipeline(&mut self, tokens: &[Token], context: &str) -> Result<Pipeline, String> {
        let assign = tokens.iter().position(|token| matches!(token.kind, TokenKind::Assign | TokenKind::Declare));
        let (mut variables, mut rest) = (Vec::new(), tokens);
        if let Some(at) = assign {
            for token in &tokens[..at] {
                match &token.kind {
                    TokenKind::Variable(name, fields) if fields.is_empty() => variables.push(name.clone()),
                    TokenKind::Comma => {}
                    _ => return Err(format!("unexpected <{}> in declaration", token.text)),
                }
            }
            if variables.is_empty() || variables.len() > 2 || (variables.len() == 2 && context != "range") {
                return Err(format!(
                    "too many declarations in {}",
                    if context.is_empty() { "command" } else { context }
                ));
            }
            rest = &tokens[at + 1..];
        }
        let mut reader = Reader { tokens: rest, at: 0, variables: &self.variables, depth: 0 };
        let commands = reader.calls(context)?;
        if reader.at < rest.len() {
            return Err(format!("unexpected {} in {}", shown(&rest[reader.at]), named(context)));
        }
        self.variables.extend(variables.iter().cloned());
        Ok(Pipeline { variables, commands })
    }
}

fn named(context: &str) -> &str {
    if matches!(context, "if" | "range" | "with") { context } else { "command" }
}

fn shown(token: &Token) -> String {
    match token.kind {
        TokenKind::Close => "right paren".into(),
        _ => format!("<{}>", token.text),
    }
}

/// Reads calls from tokens.
struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    variables: &'a [String],
    depth: usize,
}

impl Reader<'_> {
    fn calls(&mut self, context: &str) -> Result<Vec<Call>, String> {
        let mut calls = Vec::new();
        loop {
            let call = self.call()?;
            if call.operands.is_empty() {
                return Err(format!("missing value for {}", named(context)));
            }
            calls.push(call);
            if !matches!(self.tokens.get(self.at), Some(Token { kind: TokenKind::Pipe, .. })) {
                return Ok(calls);
            }
            self.at += 1;
        }
    }

    fn call(&mut self) -> Result<Call, String> {
        let mut operands = Vec::new();
        while let Some(token) = self.tokens.get(self.at) {
            if matches!(token.kind, TokenKind::Pipe | TokenKind::Close) {
                break;
            }
            self.at += 1;
            operands.push(self.operand(token)?);
        }
        let text = operands.iter().map(|operand| operand.text.as_str()).collect::<Vec<_>>().join(" ");
        Ok(Call { operands, text })
    }

    fn operand(&mut self, token: &Token) -> Result<Operand, String> {
        let kind = match &token.kind {
            TokenKind::Field(fields) => OperandKind::Field(fields.clone()),
            TokenKind::Literal(value) => OperandKind::Literal(value.clone()),
            TokenKind::Variable(name, fields) => {
                if !self.variables.contains(name) {
                    return Err(format!("undefined variable \"${name}\""));
                }
                OperandKind::Variable(name.clone(), fields.clone())
            }
            TokenKind::Word(word) => match word.as_str() {
                "true" => OperandKind::Literal(Value::Bool(true)),
                "false" => OperandKind::Literal(Value::Bool(false)),
                "nil" => OperandKind::Literal(Value::Null),
                name if function::exists(name) => OperandKind::Function(name.to_owned()),
                name => return Err(format!("function \"{name}\" not defined")),
            },
            TokenKind::Open => return self.group(token),
            _ => return Err(format!("unexpected <{}> in operand", token.text)),
        };
        Ok(Operand { kind, at: token.at, text: token.text.clone() })
    }

    fn group(&mut self, open: &Token) -> Result<Operand, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("parentheses are nested too deeply".into());
        }
        let commands = self.calls("parenthesized pipeline")?;
        let text = commands.iter().map(|call| call.text.as_str()).collect::<Vec<_>>().join(" | ");
        let Some(Token { kind: TokenKind::Close, .. }) = self.tokens.get(self.at) else {
            return Err("unclosed left paren".into());
        };
        let end = self.tokens[self.at].at + 1;
        self.at += 1;
        self.depth -= 1;
        // `(…).A`: the field follows without a space.
        let mut fields = Vec::new();
        if let Some(Token { kind: TokenKind::Field(names), at, .. }) = self.tokens.get(self.at)
            && *at == end
        {
            fields.clone_from(names);
            self.at += 1;
        }
        let pipeline = Pipeline { variables: Vec::new(), commands };
        Ok(Operand { kind: OperandKind::Group(Box::new(pipeline), fields), at: open.at, text: format!("({text})") })
    }
}

struct Token {
    kind: TokenKind,
    /// Offset in the template, in bytes.
    at: usize,
    text: String,
}

enum TokenKind {
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Word(String),
    Literal(Value),
    Pipe,
    Open,
    Close,
    Comma,
    Assign,
    Declare,
}

/// Splits the inside of an action; `offset` is where it stands in the template.
fn lex(body: &str, offset: usize) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = body[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let rest = &body[at..];
        let (kind, length) = match first {
            '|' => (TokenKind::Pipe, 1),
            '(' => (TokenKind::Open, 1),
            ')' => (TokenKind::Close, 1),
            ',' => (TokenKind::Comma, 1),
            ':' if rest.starts_with(":=") => (TokenKind::Declare, 2),
            '=' => (TokenKind::Assign, 1),
            '"' | '\'' | '`' => quoted(rest, first)?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => number(rest)?,
            '.' => {
                let length = word_length(rest, true);
                (TokenKind::Field(fields(&rest[..length])?), length)
            }
            '$' => {
                let length = 1 + word_length(&rest[1..], true);
                let (name, tail) = rest[1..length].split_once('.').unwrap_or((&rest[1..length], ""));
                let names = if tail.is_empty() { Vec::new() } else { fields(&format!(".{tail}"))? };
                (TokenKind::Variable(name.to_owned(), names), length)
            }
            c if c.is_ascii_digit() || matches!(c, '-' | '+') => number(rest)?,
            c if c.is_alphabetic() || c == '_' => {
                let length = word_length(rest, false);
                (TokenKind::Word(rest[..length].to_owned()), length)
            }
            c => return Err(format!("unexpected {} in command", super::super::go::quote(&c.to_string()))),
        };
        tokens.push(Token { kind, at: offset + at, text: rest[..length].to_owned() });
        at += length;
    }
    Ok(tokens)
}

fn word_length(text: &str, dots: bool) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_' || (dots && c == '.'))).unwrap_or(text.len())
}

/// `.A.B` → A, B; `.` → nothing.
fn fields(text: &str) -> Result<Vec<String>, String> {
    if text == "." {
        return Ok(Vec::new());
    }
    text[1..]
        .split('.')
        .map(|name| if name.is_empty() { Err("unexpected <.> in operand".to_owned()) } else { Ok(name.to_owned()) })
        .collect()
}

fn number(text: &str) -> Result<(TokenKind, usize), String> {
    let end =
        text[1..].find(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '_'))).map_or(text.len(), |at| at + 1);
    let digits = &text[..end];
    let bad = || format!("bad number syntax: {}", super::super::go::quote(digits));
    if let Ok(whole) = digits.trim_start_matches('+').parse::<i64>() {
        return Ok((TokenKind::Literal(whole.into()), end));
    }
    let hex = digits.strip_prefix("0x").and_then(|hex| i64::from_str_radix(hex, 16).ok());
    if let Some(hex) = hex {
        return Ok((TokenKind::Literal(hex.into()), end));
    }
    let float: f64 = digits.parse().map_err(|_| bad())?;
    Ok((TokenKind::Literal(Value::from(float)), end))
}

/// A quoted literal: a string with escapes, a raw one, or a character (which is a number).
fn quoted(text: &str, quote: char) -> Result<(TokenKind, usize), String> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => {
                let value = match (quote, out.chars().next()) {
                    ('\'', Some(single)) => Value::from(u32::from(single)),
                    _ => Value::String(out),
                };
                return Ok((TokenKind::Literal(value), at + 1));
            }
            '\\' if quote != '`' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(c @ ('\\' | '"' | '\'')) => out.push(c),
                _ => return Err("invalid syntax".into()),
            },
            c => out.push(c),
        }
    }
    Err(if quote == '`' { "unterminated raw quoted string".into() } else { "unterminated quoted string".to_owned() })
}
