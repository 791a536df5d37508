//! Sums call profiles of several processes.

use std::collections::HashMap;

use crate::calls::{CallProfile, CalledFunction, CalledId, Caller};
use crate::profile::StringId;

impl CallProfile {
    /// Sums several call profiles. Functions with the same file, line and name are merged.
    pub fn sum(profiles: &[CallProfile]) -> CallProfile {
        let mut sum = Sum::default();
        profiles.iter().for_each(|profile| sum.add(profile));
        let mut profile = sum.profile;
        for function in &mut profile.functions {
            function.callers.sort_by_key(|caller| std::cmp::Reverse(caller.calls));
        }
        profile
    }
}

#[derive(Default)]
struct Sum {
    profile: CallProfile,
    strings: HashMap<String, StringId>,
    functions: HashMap<(StringId, u32, StringId), CalledId>,
}

impl Sum {
    fn add(&mut self, profile: &CallProfile) {
        let ids: Vec<CalledId> =
            profile.functions.iter().map(|function| self.function(profile, function)).collect();
        for (function, &id) in profile.functions.iter().zip(&ids) {
            let sum = &mut self.profile.functions[id.index()];
            sum.primitive_calls = sum.primitive_calls.saturating_add(function.primitive_calls);
            sum.calls = sum.calls.saturating_add(function.calls);
            sum.self_s += function.self_s;
            sum.cumulative_s += function.cumulative_s;
            for caller in &function.callers {
                let caller = Caller { function: ids[caller.function.index()], ..caller.clone() };
                add_caller(&mut sum.callers, caller);
            }
        }
    }

    /// Returns the function of the sum that corresponds to `function` of `profile`. Adds it if it is new.
    fn function(&mut self, profile: &CallProfile, function: &CalledFunction) -> CalledId {
        let file = self.string(profile.file(function));
        let name = self.string(profile.name(function));
        let functions = &mut self.profile.functions;
        *self.functions.entry((file, function.line, name)).or_insert_with(|| {
            let id = u32::try_from(functions.len()).expect("profiles have fewer functions");
            functions.push(CalledFunction {
                file,
                line: function.line,
                name,
                primitive_calls: 0,
                calls: 0,
                self_s: 0.0,
                cumulative_s: 0.0,
                callers: Vec::new(),
            });
            CalledId(id)
        })
    }

    fn string(&mut self, text: &str) -> StringId {
        if let Some(&id) = self.strings.get(text) {
            return id;
        }
        let strings = &mut self.profile.strings;
        let id = StringId(u32::try_from(strings.len()).expect("profiles have fewer strings"));
        strings.push(text.to_owned());
        self.strings.insert(text.to_owned(), id);
        id
    }
}

fn add_caller(callers: &mut Vec<Caller>, more: Caller) {
    let Some(known) = callers.iter_mut().find(|known| known.function == more.function) else {
        return callers.push(more);
    };
    known.primitive_calls = known.primitive_calls.saturating_add(more.primitive_calls);
    known.calls = known.calls.saturating_add(more.calls);
    known.self_s = known.self_s.zip(more.self_s).map(|(a, b)| a + b);
    known.cumulative_s = known.cumulative_s.zip(more.cumulative_s).map(|(a, b)| a + b);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A profile of functions in one file. Each is called by the one before it, with the given number of calls.
    fn profile(functions: &[(&str, u64)]) -> CallProfile {
        let strings = ["sim.py"].into_iter().chain(functions.iter().map(|(name, _)| *name));
        let function = |(at, &(_, calls)): (u32, &(&str, u64))| CalledFunction {
            file: StringId(0),
            line: 7,
            name: StringId(at + 1),
            primitive_calls: calls - 1,
            calls,
            self_s: 0.5,
            cumulative_s: 1.0,
            callers: (at.checked_sub(1).into_iter())
                .map(|caller| Caller {
                    function: CalledId(caller),
                    primitive_calls: calls - 1,
                    calls,
                    self_s: Some(0.5),
                    cumulative_s: None,
                })
                .collect(),
        };
        CallProfile {
            strings: strings.map(str::to_owned).collect(),
            functions: (0..).zip(functions).map(function).collect(),
        }
    }

    #[test]
    fn calls_of_the_same_function_are_added() {
        let parts = [profile(&[("main", 1), ("step", 10)]), profile(&[("step", 5), ("main", 2)])];
        let sum = CallProfile::sum(&parts);
        let found: Vec<_> = sum
            .functions
            .iter()
            .map(|function| (sum.name(function), function.calls, function.primitive_calls))
            .collect();
        assert_eq!(found, [("main", 3, 1), ("step", 15, 13)]);
        assert_eq!(sum.total_s(), 2.0);
        let [main, step] = &sum.functions[..] else { panic!("{sum:?}") };
        let callers = |function: &CalledFunction| {
            let callers = function.callers.iter();
            callers
                .map(|caller| (caller.function.0, caller.calls, caller.self_s))
                .collect::<Vec<_>>()
        };
        assert_eq!(callers(step), [(0, 10, Some(0.5))]);
        assert_eq!(callers(main), [(1, 2, Some(0.5))]);
    }

    #[test]
    fn a_sum_of_one_profile_equals_it_and_an_empty_sum_is_empty() {
        let one = profile(&[("main", 1), ("step", 10)]);
        let twice = CallProfile::sum(&[one.clone(), one.clone()]);
        assert_eq!(twice.functions[1].callers[0].calls, 20);
        assert_eq!(CallProfile::sum(std::slice::from_ref(&one)).total_calls(), one.total_calls());
        assert_eq!(CallProfile::sum(&[]), CallProfile::default());
    }
}
