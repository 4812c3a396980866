//! One operation, and how OpenAPI writes it down.

use serde_json::{Map, Value, json};

/// Who may.
#[derive(Clone, Debug)]
enum Security {
    /// Anybody.
    Open,
    /// Who has a token.
    Token,
    /// Who has a token with one of these scopes.
    Scopes(Vec<&'static str>),
}

/// A method on a path.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) id: String,
    what: &'static str,
    security: Security,
    /// What stands for the token, besides.
    instead: Vec<&'static str>,
    parameters: Vec<&'static str>,
    body: Option<(bool, Vec<(&'static str, &'static str)>)>,
    answers: Vec<(u16, Value)>,
    refusals: Vec<u16>,
    callback: Option<Value>,
    deprecated: bool,
}

/// A reference to a component.
pub(super) fn component(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{name}")})
}

/// Media types and the schemas behind them; no schema: bytes.
fn content(kinds: &[(&'static str, &'static str)]) -> Value {
    let one = |(media, schema): &(&str, &str)| {
        let schema = if schema.is_empty() { json!({}) } else { component("schemas", schema) };
        ((*media).to_owned(), json!({ "schema": schema }))
    };
    Value::Object(kinds.iter().map(one).collect())
}

pub(super) const JSON: &str = "application/json";

impl Operation {
    pub(super) fn new(
        method: &'static str,
        path: impl Into<String>,
        id: impl Into<String>,
        what: &'static str,
    ) -> Self {
        Self {
            method,
            path: path.into(),
            id: id.into(),
            what,
            security: Security::Open,
            instead: vec![],
            parameters: vec![],
            body: None,
            answers: vec![],
            refusals: vec![],
            callback: None,
            deprecated: false,
        }
    }

    /// Needs a token, whatever it is for.
    pub(super) fn token(mut self) -> Self {
        self.security = Security::Token;
        self.refuses(&[401])
    }

    /// Needs a token with a scope.
    pub(super) fn scope(self, scope: &'static str) -> Self {
        self.scopes(&[scope])
    }

    /// Needs a token with one of some scopes; the first is the one that a refusal names.
    pub(super) fn scopes(mut self, scopes: &[&'static str]) -> Self {
        self.security = Security::Scopes(scopes.to_vec());
        self.refuses(&[401, 403])
    }

    /// Takes something else for the token.
    pub(super) fn or(mut self, scheme: &'static str) -> Self {
        self.instead.push(scheme);
        self
    }

    /// Takes parameters, besides those in its path.
    pub(super) fn takes(mut self, parameters: &[&'static str]) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// Needs a JSON body.
    pub(super) fn body(self, schema: &'static str) -> Self {
        self.bodies(true, &[(JSON, schema)])
    }

    /// Takes a body of one of these kinds.
    pub(super) fn bodies(mut self, needed: bool, kinds: &[(&'static str, &'static str)]) -> Self {
        self.body = Some((needed, kinds.to_vec()));
        self
    }

    /// Answers JSON.
    pub(super) fn answers(self, status: u16, what: &str, schema: &'static str) -> Self {
        self.answers_with(status, what, &[(JSON, schema)], &[])
    }

    /// Answers without a body.
    pub(super) fn answers_nothing(self, status: u16, what: &str) -> Self {
        self.answers_with(status, what, &[], &[])
    }

    /// Answers in one of these kinds, with headers.
    pub(super) fn answers_with(
        mut self,
        status: u16,
        what: &str,
        kinds: &[(&'static str, &'static str)],
        headers: &[&'static str],
    ) -> Self {
        let mut answer = json!({ "description": what });
        if !kinds.is_empty() {
            answer["content"] = content(kinds);
        }
        if !headers.is_empty() {
            let header = |name: &&str| ((*name).to_owned(), component("headers", name));
            answer["headers"] = Value::Object(headers.iter().map(header).collect());
        }
        self.answers.push((status, answer));
        self
    }

    /// Refuses with these statuses.
    pub(super) fn refuses(mut self, statuses: &[u16]) -> Self {
        self.refusals.extend(statuses);
        self
    }

    /// Leads to requests by the server.
    pub(super) fn calls_back(mut self, callbacks: Value) -> Self {
        self.callback = Some(callbacks);
        self
    }

    /// Is another spelling of something.
    pub(super) fn deprecated(mut self) -> Self {
        self.deprecated = true;
        self
    }

    /// As it stands below its path, where `words` begins the names of the refusals.
    pub(super) fn document(&self, tag: &str, words: &str) -> Value {
        let mut operation = json!({ "operationId": self.id, "tags": [tag], "summary": self.what });
        if self.deprecated {
            operation["deprecated"] = true.into();
        }
        operation["security"] = self.security();
        let in_path = self.path.split('{').skip(1).filter_map(|part| part.split('}').next());
        let parameters: Vec<_> = in_path
            .chain(self.parameters.iter().copied())
            .map(|name| component("parameters", name))
            .collect();
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some((needed, kinds)) = &self.body {
            operation["requestBody"] = json!({ "required": needed, "content": content(kinds) });
        }
        let mut responses = Map::new();
        for (status, answer) in &self.answers {
            responses.insert(status.to_string(), answer.clone());
        }
        for status in &self.refusals {
            responses.insert(status.to_string(), component("responses", &format!("{words}{status}")));
        }
        operation["responses"] = Value::Object(responses);
        if let Some(callbacks) = &self.callback {
            operation["callbacks"] = callbacks.clone();
        }
        operation
    }

    fn security(&self) -> Value {
        let bearers = match &self.security {
            Security::Open => return json!([]),
            Security::Token => vec![json!({ "bearer": [] })],
            Security::Scopes(scopes) => scopes.iter().map(|scope| json!({ "bearer": [scope] })).collect(),
        };
        let others = self
            .instead
            .iter()
            .map(|scheme| Value::Object(Map::from_iter([((*scheme).to_owned(), json!([]))])));
        bearers.into_iter().chain(others).collect()
    }
}
