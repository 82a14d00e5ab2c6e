//! Nodes and a value to text.

use super::{Call, Node, Operand, OperandKind, Pipeline, function, print};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a template is executed on.
pub(crate) struct Data<'a> {
    root: &'a Value,
    /// What the method `.Label "key"` of a row answers from.
    labels: Option<&'a BTreeMap<String, String>>,
    /// Go's name of the row's type, for its error about unknown fields; without it the root is a map.
    row: Option<&'a str>,
    /// The root holds the names of columns: functions leave them alone.
    header: bool,
}

impl<'a> Data<'a> {
    /// An inspected object.
    pub(crate) fn new(root: &'a Value) -> Self {
        Self { root, labels: None, row: None, header: false }
    }

    /// A row of a listing.
    pub(crate) fn row(root: &'a Value, labels: Option<&'a BTreeMap<String, String>>, type_name: &'a str) -> Self {
        Self { root, labels, row: Some(type_name), header: false }
    }

    /// The names of columns, for the first line of a table.
    pub(crate) fn header(root: &'a Value) -> Self {
        Self { root, labels: None, row: None, header: true }
    }
}

/// A value and the member that it came from, which decides how it is printed.
#[derive(Clone)]
struct Item {
    value: Value,
    name: String,
}

impl Item {
    fn bare(value: Value) -> Self {
        Self { value, name: String::new() }
    }
}

/// What a list of nodes ended with.
enum Flow {
    Next,
    Break,
    Continue,
}

struct Scope<'a> {
    data: &'a Data<'a>,
    variables: Vec<(String, Item)>,
    out: String,
    /// Objects are maps with the keys of the JSON, not structures with Go's fields.
    raw: bool,
}

/// Docker executes the template of an inspection on its own type first, and on the plain JSON when that fails:
/// `.ID` and `.Id` both work, but not in one template.
pub(super) fn execute(nodes: &[Node], data: &Data<'_>) -> Result<String, String> {
    let root = Item::bare(data.root.clone());
    let run = |raw| {
        let mut scope = Scope { data, variables: vec![(String::new(), root.clone())], out: String::new(), raw };
        scope.nodes(nodes, &root).map(|_| scope.out)
    };
    match run(false) {
        Err(_) if data.row.is_none() && !data.header => run(true),
        other => other,
    }
}

/// Go's frame around a reason.
fn failed(at: usize, text: &str, why: &str) -> String {
    format!("template: :1:{at}: executing \"\" at <{text}>: {why}")
}

impl Scope<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Item) -> Result<Flow, String> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
                Node::Action(pipeline) => {
                    let item = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        let text =
                            if self.raw { print::raw(&item.value) } else { print::value(&item.value, &item.name) };
                        self.out.push_str(&text);
                    }
                }
                _ => match self.block(node, dot)? {
                    Flow::Next => {}
                    other => return Ok(other),
                },
            }
        }
        Ok(Flow::Next)
    }

    fn block(&mut self, node: &Node, dot: &Item) -> Result<Flow, String> {
        let known = self.variables.len();
        let flow = match node {
            Node::If(pipeline, body, otherwise) => {
                let item = self.pipeline(pipeline, dot)?;
                self.nodes(if truth(&item.value) { body } else { otherwise }, dot)
            }
            Node::With(pipeline, body, otherwise) => {
                let item = self.pipeline(pipeline, dot)?;
                if truth(&item.value) { self.nodes(body, &item) } else { self.nodes(otherwise, dot) }
            }
            Node::Range(pipeline, body, otherwise) => self.range(pipeline, body, otherwise, dot),
            _ => Ok(Flow::Next),
        };
        self.variables.truncate(known);
        flow
    }

    fn range(&mut self, pipeline: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Item) -> Result<Flow, String> {
        let item = self.calls(&pipeline.commands, dot)?;
        let elements: Vec<(Value, Value)> = match item.value {
            Value::Null => Vec::new(),
            Value::Array(items) => items.into_iter().enumerate().map(|(index, item)| (index.into(), item)).collect(),
            Value::Object(members) => {
                let mut pairs: Vec<(String, Value)> = members.into_iter().collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                pairs.into_iter().map(|(key, value)| (key.into(), value)).collect()
            }
            Value::Number(count) if count.as_u64().is_some_and(|count| count <= MAX_RANGE) => {
                (0..count.as_u64().unwrap_or(0)).map(|index| (index.into(), index.into())).collect()
            }
            other => {
                let first = &pipeline.commands[0].operands[0];
                let why = format!("range can't iterate over {}", print::value(&other, ""));
                return Err(failed(first.at, &pipeline.commands[0].text, &why));
            }
        };
        if elements.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, value) in elements {
            let known = self.variables.len();
            let element = Item::bare(value);
            match pipeline.variables.as_slice() {
                [one] => self.variables.push((one.clone(), element.clone())),
                [index, one] => {
                    self.variables.push((index.clone(), Item::bare(key)));
                    self.variables.push((one.clone(), element.clone()));
                }
                _ => {}
            }
            let flow = self.nodes(body, &element)?;
            self.variables.truncate(known);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Item) -> Result<Item, String> {
        let item = self.calls(&pipeline.commands, dot)?;
        for name in &pipeline.variables {
            // An inner block sets the variable that an outer one declared, as `=` does.
            self.variables.push((name.clone(), item.clone()));
        }
        Ok(item)
    }

    fn calls(&mut self, calls: &[Call], dot: &Item) -> Result<Item, String> {
        let mut last = None;
        for call in calls {
            last = Some(self.call(call, dot, last)?);
        }
        Ok(last.unwrap_or_else(|| Item::bare(Value::Null)))
    }

    fn call(&mut self, call: &Call, dot: &Item, piped: Option<Item>) -> Result<Item, String> {
        let (first, rest) = call.operands.split_first().ok_or("empty command")?;
        if let OperandKind::Function(name) = &first.kind
            && matches!(name.as_str(), "and" | "or")
        {
            return self.choose(name == "or", rest, dot, piped);
        }
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            let item = self.operand(operand, dot)?;
            // In Go's types these are lists and maps without elements; `json` shows that there are none.
            let empty = item.value.is_null()
                && !self.raw
                && !matches!(&first.kind, OperandKind::Function(name) if name == "json");
            arguments.push(if empty { print::empty(&item.name) } else { item.value });
        }
        arguments.extend(piped.map(|item| item.value));
        match &first.kind {
            OperandKind::Function(name)
                if self.data.header && function::is_left_alone(name) && !arguments.is_empty() =>
            {
                Ok(Item::bare(arguments.swap_remove(0)))
            }
            OperandKind::Function(name) => {
                function::call(name, &arguments, self.data.row.is_some()).map(Item::bare).map_err(|why| {
                    failed(first.at, if function::is_conversion(name) { &first.text } else { &call.text }, &why)
                })
            }
            OperandKind::Field(names) if self.data.header && names.len() == 1 && names[0] == "Label" => {
                // The column is named after the last part of the label.
                let label = arguments.first().and_then(Value::as_str).unwrap_or_default();
                let name = label.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ");
                Ok(Item::bare(name.into()))
            }
            OperandKind::Field(names) if !arguments.is_empty() => match (names.as_slice(), self.data.labels) {
                ([name], Some(labels)) if name == "Label" && arguments.len() == 1 => {
                    let key = arguments[0].as_str().unwrap_or_default();
                    Ok(Item::bare(labels.get(key).cloned().unwrap_or_default().into()))
                }
                _ => {
                    let name = names.last().map_or(".", String::as_str);
                    Err(failed(
                        first.at,
                        &first.text,
                        &format!("{name} has arguments but cannot be invoked as function"),
                    ))
                }
            },
            _ if !arguments.is_empty() => {
                Err(failed(first.at, &first.text, &format!("can't give argument to non-function {}", first.text)))
            }
            _ => self.operand(first, dot),
        }
    }

    /// `and` and `or` look at an argument only when those before it have not decided:
    /// `{{if and .State.Health (eq .State.Health.Status "healthy")}}` relies on it.
    fn choose(&mut self, wanted: bool, operands: &[Operand], dot: &Item, piped: Option<Item>) -> Result<Item, String> {
        let mut last = None;
        for operand in operands {
            let item = self.operand(operand, dot)?;
            if truth(&item.value) == wanted {
                return Ok(item);
            }
            last = Some(item);
        }
        piped.or(last).ok_or_else(|| "wrong number of args: want at least 1 got 0".to_owned())
    }

    fn operand(&mut self, operand: &Operand, dot: &Item) -> Result<Item, String> {
        match &operand.kind {
            OperandKind::Literal(value) => Ok(Item::bare(value.clone())),
            OperandKind::Field(names) => self.fields(dot.clone(), names, operand),
            OperandKind::Variable(name, names) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let item = found.map_or_else(|| Item::bare(Value::Null), |(_, item)| item.clone());
                self.fields(item, names, operand)
            }
            OperandKind::Function(name) => {
                let value = function::call(name, &[], false).map_err(|why| failed(operand.at, &operand.text, &why))?;
                Ok(Item::bare(value))
            }
            OperandKind::Group(pipeline, names) => {
                let item = self.calls(&pipeline.commands, dot)?;
                self.fields(item, names, operand)
            }
        }
    }

    fn fields(&self, start: Item, names: &[String], operand: &Operand) -> Result<Item, String> {
        let mut item = start;
        // Go takes the second field of a chain for the place of the whole chain.
        let own = if operand.text.starts_with('.') { names.first().map_or(0, |name| name.len() + 1) } else { 0 };
        let at = operand.at + if names.len() > 1 { own } else { 0 };
        for (depth, name) in names.iter().enumerate() {
            let wrong = |why: String| failed(at, &operand.text, &why);
            item = match &item.value {
                Value::Object(members) => {
                    let map = self.raw || print::is_map(members, &item.name);
                    let found = if map { members.get(name).cloned() } else { field(members, name) };
                    match (found, self.data.row.filter(|_| depth == 0)) {
                        (None, _) if map && !self.raw => Item { value: Value::Null, name: print::NO_VALUE.to_owned() },
                        (Some(value), _) => Item { value, name: name.clone() },
                        (None, Some(row)) => return Err(wrong(format!("can't evaluate field {name} in type {row}"))),
                        (None, None) => return Err(wrong(format!("map has no entry for key \"{name}\""))),
                    }
                }
                Value::Null => return Err(wrong(format!("nil pointer evaluating interface {{}}.{name}"))),
                _ => return Err(wrong(format!("can't evaluate field {name} in type interface {{}}"))),
            };
        }
        Ok(item)
    }
}

/// `range 10` has a limit: a format must not loop for ever.
const MAX_RANGE: u64 = 100_000;

/// Go's truth: not zero, not empty.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// The member that Go's type has under that name. A field that the JSON leaves out when it is empty exists all the same.
fn field(members: &Map<String, Value>, name: &str) -> Option<Value> {
    let found = members.iter().find(|(key, _)| go_name(key) == name);
    found.map_or_else(|| omitted(name), |(_, value)| Some(value.clone()))
}

/// Go's name of a field, where the JSON has another.
fn go_name(key: &str) -> Cow<'_, str> {
    let known = match key {
        "Id" | "id" => "ID",
        "NanoCpus" => "NanoCPUs",
        "CpuShares" => "CPUShares",
        "CpuPeriod" => "CPUPeriod",
        "CpuQuota" => "CPUQuota",
        "CpuRealtimePeriod" => "CPURealtimePeriod",
        "CpuRealtimeRuntime" => "CPURealtimeRuntime",
        "CpuCount" => "CPUCount",
        "CpuPercent" => "CPUPercent",
        "Dns" => "DNS",
        "DnsOptions" => "DNSOptions",
        "DnsSearch" => "DNSSearch",
        _ => key,
    };
    let mut chars = known.chars();
    match chars.next() {
        Some(first) if first.is_lowercase() => first.to_uppercase().chain(chars).collect::<String>().into(),
        _ => known.into(),
    }
}

fn omitted(name: &str) -> Option<Value> {
    match name {
        "Health"
        | "Healthcheck"
        | "Init"
        | "StopTimeout"
        | "SizeRw"
        | "SizeRootFs"
        | "ImageManifestDescriptor"
        | "UsageData"
        | "BindOptions"
        | "VolumeOptions"
        | "TmpfsOptions"
        | "ImageOptions"
        | "Descriptor" => Some(Value::Null),
        "ExposedPorts" | "Tmpfs" | "Annotations" | "Sysctls" | "StorageOpt" => Some(Value::Object(Map::new())),
        "Shell" | "OnBuild" | "Mounts" => Some(Value::Array(Vec::new())),
        "StopSignal" | "MacAddress" | "Variant" | "OsVersion" => Some(Value::String(String::new())),
        "NetworkDisabled" | "ArgsEscaped" => Some(Value::Bool(false)),
        _ => None,
    }
}
