//! The part of Go's `text/template` that `--format` uses, over JSON values.
//!
//! ```text
//! text ──► parse ──► nodes ──► eval(value) ──► text
//! ```
//!
//! Fields, indexing, pipelines, variables, `if`/`else if`/`else`, `range`, `with`, `break`, `continue`, Go's functions on values
//! (`index`, `len`, `printf`, `eq` …) and Docker's own (`json`, `join`, `split`, `upper`, `lower`, `title`, `pad`, `truncate`).
//! Named templates are refused: a `--format` has no second template to name.

mod eval;
mod function;
mod parse;
mod print;

use serde_json::Value;

pub(crate) use eval::Data;

/// A template that was read.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

/// A piece of a template.
#[derive(Debug)]
enum Node {
    Text(String),
    /// Shows the value of a pipeline, unless it only sets a variable.
    Action(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

/// `$a, $b := first | second`.
#[derive(Debug)]
struct Pipeline {
    variables: Vec<String>,
    commands: Vec<Call>,
}

/// One link of a pipeline: a function or value, and its arguments.
#[derive(Debug)]
struct Call {
    operands: Vec<Operand>,
    /// As it was written, for error messages.
    text: String,
}

/// One word of a command and where it begins, in bytes.
#[derive(Debug)]
struct Operand {
    kind: OperandKind,
    at: usize,
    text: String,
}

#[derive(Debug)]
enum OperandKind {
    /// `.`, `.A.B`
    Field(Vec<String>),
    /// `$x`, `$x.A`
    Variable(String, Vec<String>),
    Function(String),
    Literal(Value),
    /// `(…)`, `(…).A`
    Group(Box<Pipeline>, Vec<String>),
}

impl Template {
    /// Reads a template. The error is Go's text behind `template: :1: `.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        parse::parse(text).map(|nodes| Self { nodes }).map_err(|why| format!("template: :1: {why}"))
    }

    /// Writes the text for one value. The error is Go's.
    pub(crate) fn execute(&self, data: &Data<'_>) -> Result<String, String> {
        eval::execute(&self.nodes, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn show(template: &str) -> Result<String, String> {
        let value = json!({
            "Id": "0123456789ab", "Name": "/web", "Args": ["-l", "-a"], "State": {"Running": true, "Pid": 42, "ExitCode": 0},
            "Config": {"Labels": {"a.b": "c", "x": "y"}, "Env": null},
            "Ports": [{"Port": 80, "Type": "tcp"}, {"Port": 53, "Type": "udp"}], "Rate": 1.5, "Empty": []
        });
        Template::parse(template)?.execute(&Data::new(&value))
    }

    #[test]
    fn shows_what_go_shows() {
        let cases = [
            ("plain", "plain"),
            ("{{.Name}} {{.State.Pid}} {{.Rate}}", "/web 42 1.5"),
            ("{{.ID}}", "0123456789ab"),
            ("{{json .Args}}{{json .State}}", r#"["-l","-a"]{"Running":true,"Pid":42,"ExitCode":0}"#),
            ("{{.Args}} {{.Config.Labels}} {{.Config.Env}}", "[-l -a] map[a.b:c x:y] []"),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            ("{{if .Empty}}a{{else if eq .State.Pid 42}}b{{else}}c{{end}}", "b"),
            ("{{range .Ports}}{{.Port}}/{{.Type}} {{end}}", "80/tcp 53/udp "),
            ("{{range $i, $p := .Ports}}{{if $i}}, {{end}}{{$i}}={{$p.Port}}{{end}}", "0=80, 1=53"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}};{{end}}", "a.b:c;x:y;"),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{range .Ports}}{{if eq .Port 53}}{{break}}{{end}}{{.Port}}{{end}}", "80"),
            ("{{with .State}}{{.Pid}}{{end}}{{with .Empty}}x{{else}}y{{end}}", "42y"),
            (r#"{{index .Config.Labels "a.b"}} {{index .Args 1}} {{(index .Ports 0).Type}}"#, "c -a tcp"),
            ("{{len .Args}} {{len .Name}}", "2 4"),
            (
                r#"{{.Name | upper | printf "%s!"}} {{printf "%5d|%-5s|%q|%v|%05d|%x" 42 "ab" "c" true 7 255}}"#,
                "/WEB!    42|ab   |\"c\"|true|00007|ff",
            ),
            (r#"{{join .Args ", "}} {{lower "ABC"}} {{title "a bc"}} {{split "a/b" "/"}}"#, "-l, -a abc A Bc [a b]"),
            ("{{println 1 \"a\"}}{{print 1 2 \"x\"}}", "1 a\n1 2x"),
            (
                "{{and true 0}} {{or \"\" \"b\"}} {{not true}} {{ne 1 2}} {{lt 1 2}} {{eq .State.Pid 1 42}}",
                "0 b false true true true",
            ),
            ("a {{- /* note */ -}} b {{- .Name -}} c", "ab/webc"),
            ("{{$x := .Name}}{{$x}}{{$.Id}}", "/web0123456789ab"),
            ("{{`raw`}}{{'a'}}{{slice .Id 0 4}}{{truncate .Id 3}}{{pad \"x\" 1 2}}|", "raw970123012 x  |"),
            ("{{.State.Health}} {{.Config.ExposedPorts}}", "<nil> map[]"),
        ];
        for (template, expected) in cases {
            assert_eq!(show(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn errors_are_gos() {
        let cases = [
            ("{{", "template: :1: unclosed action"),
            ("{{.ID", "template: :1: unclosed action"),
            ("{{foo .ID}}", "template: :1: function \"foo\" not defined"),
            ("{{if .ID}}x", "template: :1: unexpected EOF"),
            ("{{end}}", "template: :1: unexpected {{end}}"),
            ("{{.Foo}}", "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\""),
            ("{{.State.Foo}}", "template: :1:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\""),
            ("{{$x}}", "template: :1: undefined variable \"$x\""),
            (
                "{{len .Config.Env}} {{.Id}}",
                "template: :1:2: executing \"\" at <len .Config.Env>: error calling len: len of nil pointer",
            ),
            (
                "{{index .Args 7}}",
                "template: :1:2: executing \"\" at <index .Args 7>: error calling index: index out of range: 7",
            ),
        ];
        for (template, expected) in cases {
            assert_eq!(show(template).unwrap_err(), expected, "{template}");
        }
    }
}
