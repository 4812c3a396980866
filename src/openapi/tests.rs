//! That the document holds together.

use std::collections::BTreeSet;

use super::*;

fn operations() -> Vec<(String, String, Value)> {
    let document = document();
    let paths = document["paths"].as_object().unwrap().clone();
    let methods = |(path, item): (String, Value)| {
        let item = item.as_object().unwrap().clone();
        let all = item.into_iter().filter(|(method, _)| !method.starts_with("x-"));
        all.map(move |(method, operation)| (method, path.clone(), operation)).collect::<Vec<_>>()
    };
    paths.into_iter().flat_map(methods).collect()
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_and_parameter_is_of_use() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
    for kind in ["schemas", "parameters", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(found.contains(&format!("#/components/{kind}/{name}")), "{kind}: {name}");
        }
    }
}

#[test]
fn operations_have_names_of_their_own_and_say_what_comes_back() {
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations() {
        let name = operation["operationId"].as_str().unwrap().to_owned();
        assert!(names.insert(name.clone()), "{name} is there twice");
        let statuses: BTreeSet<_> = operation["responses"].as_object().unwrap().keys().collect();
        let succeeds = |status: &&String| status.starts_with('2') || *status == "101";
        assert!(statuses.iter().any(succeeds), "{method} {path}");
        let secured = !operation["security"].as_array().unwrap().is_empty();
        assert_eq!(secured, statuses.iter().any(|status| *status == "401"), "{method} {path}");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
    }
    assert!(names.len() > 40, "{}", names.len());
}

#[test]
fn every_code_is_told_with_its_status() {
    let document = document();
    for (words, codes) in [("Problem", ript::codes()), ("Error", crate::adapter::camara::codes())] {
        assert!(codes.len() > 10);
        for (status, code) in codes {
            let response = &document["components"]["responses"][format!("{words}{status}")];
            assert!(response["description"].as_str().unwrap().split(", ").any(|one| one == code), "{code}");
            assert!(response.to_string().contains(&format!("\"{code}\"")), "{code}");
        }
    }
}

#[test]
fn a_tag_is_current_if_the_client_has_it() {
    let ask = |text: &'static str| {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(text))]);
        is_current(&headers, "\"a\"")
    };
    assert!(ask("\"a\"") && ask("W/\"a\"") && ask("\"b\", \"a\"") && ask("*"));
    assert!(!ask("\"b\"") && !ask("a") && !ask(""));
    assert!(!is_current(&HeaderMap::new(), "\"a\""));
}
