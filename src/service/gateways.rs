//! Several ways to other networks as one: each is asked in turn.

use std::sync::Arc;

use serde_json::Value;

use super::consumers::Consumer;
use super::gateway::{Departed, Departure, Gateway, Line, Pending, Target};
use crate::identity::principal::Principal;
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};

/// All gateways of a server, the first that knows a way first.
#[derive(Debug)]
pub struct Gateways(Vec<Arc<dyn Gateway>>);

impl Gateways {
    /// In the order in which they are asked.
    pub fn new(all: Vec<Arc<dyn Gateway>>) -> Arc<Self> {
        Arc::new(Self(all))
    }

    fn to(&self, target: &Target) -> Result<Arc<dyn Gateway>, Problem> {
        let found = self.0.iter().find(|gateway| gateway.leads_to(target)).cloned();
        found.ok_or_else(|| Problem::new(Code::Unreachable, "this server has no way to that network"))
    }
}

impl Gateway for Gateways {
    fn route(&self, to: &Number) -> Option<Target> {
        self.0.iter().find_map(|gateway| gateway.route(to))
    }

    fn leads_to(&self, target: &Target) -> bool {
        self.0.iter().any(|gateway| gateway.leads_to(target))
    }

    fn place(self: Arc<Self>, target: Target, call: Departure) -> Pending<Result<Departed, Problem>> {
        Box::pin(async move { self.to(&target)?.place(target, call).await })
    }

    fn withholds(&self, target: &Target) -> bool {
        self.0
            .iter()
            .find(|gateway| gateway.leads_to(target))
            .is_some_and(|gateway| gateway.withholds(target))
    }

    fn resume(self: Arc<Self>, record: Value) -> Pending<Option<Box<dyn Line>>> {
        // What another gateway wrote down is nothing to this one.
        let all: Vec<_> = self.0.iter().map(|gateway| Arc::clone(gateway).resume(record.clone())).collect();
        Box::pin(async move {
            for resumed in all {
                if let Some(line) = resumed.await {
                    return Some(line);
                }
            }
            None
        })
    }

    fn check(self: Arc<Self>, consumer: Arc<Consumer>) -> Pending<Result<(), Problem>> {
        Box::pin(async move { self.to(&Target::Customer(consumer.clone()))?.check(consumer).await })
    }

    fn enrol(self: Arc<Self>, csr: Vec<u8>, number: Number) -> Pending<Result<String, Problem>> {
        Box::pin(async move {
            let mut last = Problem::new(Code::NotFound, "no provider of this server enrols that number");
            for gateway in &self.0 {
                match Arc::clone(gateway).enrol(csr.clone(), number.clone()).await {
                    Err(problem) if problem.code == Code::NotFound => last = problem,
                    done => return done,
                }
            }
            Err(last)
        })
    }

    fn pseudonym(&self) -> Option<&str> {
        self.0.iter().find_map(|gateway| gateway.pseudonym())
    }

    fn is_peer(&self, user: &str) -> bool {
        self.0.iter().any(|gateway| gateway.is_peer(user))
    }

    fn holder(&self, token: &str) -> Option<Principal> {
        self.0.iter().find_map(|gateway| gateway.holder(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A way to one kind of target, for numbers that begin alike.
    #[derive(Debug)]
    struct Way(&'static str, Target);

    impl Gateway for Way {
        fn route(&self, to: &Number) -> Option<Target> {
            to.to_string().starts_with(self.0).then(|| self.1.clone())
        }

        fn leads_to(&self, target: &Target) -> bool {
            std::mem::discriminant(target) == std::mem::discriminant(&self.1)
        }

        fn place(self: Arc<Self>, _: Target, _: Departure) -> Pending<Result<Departed, Problem>> {
            Box::pin(async move { Err(Problem::new(Code::BadGateway, self.0)) })
        }

        fn resume(self: Arc<Self>, _: Value) -> Pending<Option<Box<dyn Line>>> {
            Box::pin(std::future::ready(None))
        }

        fn is_peer(&self, user: &str) -> bool {
            user == self.0
        }
    }

    #[tokio::test]
    async fn each_call_leaves_by_the_gateway_that_knows_its_way() {
        let trunk = Way("+1", Target::Provider("p.example".into()));
        let gateways = Gateways::new(vec![Arc::new(trunk), Arc::new(Way("+", Target::Operator))]);
        let route = |to: &str| gateways.route(&to.parse().unwrap());
        assert!(matches!(route("+14085550001"), Some(Target::Provider(_))));
        assert!(matches!(route("+442071838750"), Some(Target::Operator)));
        assert!(route("a@example.com").is_none());
        let call = || Departure {
            from: "+14085550001".parse().unwrap(),
            to: "+14085550002".parse().unwrap(),
            passport: String::new(),
            advertisement: crate::protocol::advertisement::Advertisement::default(),
            withheld: false,
            location: None,
        };
        for (target, way) in [(Target::Operator, "+"), (Target::Provider("q.example".into()), "+1")] {
            assert_eq!(gateways.clone().place(target, call()).await.unwrap_err().detail, way);
        }
        assert!(gateways.is_peer("+1") && !gateways.is_peer("x") && gateways.pseudonym().is_none());
        let number = "+14085550001".parse().unwrap();
        assert_eq!(gateways.clone().enrol(vec![], number).await.unwrap_err().code, Code::NotFound);
        assert!(gateways.holder("t").is_none() && gateways.clone().resume(Value::Null).await.is_none());
    }
}
