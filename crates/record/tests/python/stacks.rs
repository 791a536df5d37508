//! Shares, lines and merged stacks of one process.

use crate::support::{Place, account, assert_share, count, explain, interpreters, stack};

/// Spins in two methods, three times as long in one of them as in the other.
const SPIN: &str = "\
class Model:
    def heavy(self):
        x = 0
        for i in range(30000):
            x += i * i
        return x

    def light(self):
        x = 0
        for i in range(10000):
            x += i * i
        return x

    def step(self):
        self.heavy()
        self.light()

def main():
    model = Model()
    for _ in range(600):
        model.step()

if __name__ == '__main__':
    main()
";

#[test]
fn shares_and_lines_are_those_of_the_program() {
    let place = Place::new();
    let script = place.file("spin.py", SPIN);
    for python in interpreters() {
        let Some(profile) = place.profile(&[&python, &script]) else { return };
        let (heavy, light) =
            (count(&profile, "spin.Model.heavy"), count(&profile, "spin.Model.light"));
        assert_share(&profile, heavy, light, 0.75);
        let known = ["spin.<module>:24", "spin.main:21"];
        let mut whole = 0;
        for sample in &profile.samples {
            let stack = stack(&profile, sample);
            if stack.iter().any(|frame| frame.starts_with("spin.Model.heavy")) {
                whole += usize::from(stack[..2] == known && stack[2] == "spin.Model.step:15");
                let line: Vec<_> = stack[3].split(':').collect();
                assert!(["2", "3", "4", "5", "6"].contains(&line[1]), "{stack:?}");
            }
        }
        assert!(whole * 100 >= heavy * 99, "{whole} of {heavy}: {}", explain(&profile));
        let account = account(&profile);
        assert!(account.lost * 100 < account.samples, "{}", explain(&profile));
        assert!(account.unmerged * 100 < account.samples, "{}", explain(&profile));
        assert_eq!(account.interpreters.len(), 1);
    }
}
