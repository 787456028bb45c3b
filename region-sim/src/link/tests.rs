//! Goal: a link does to datagrams exactly what its settings say, in any sequence of sizes, times and changes.
//! Method: random histories against the rules; statistics over many draws for what is random.

use proptest::prelude::*;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn arrival(now: Duration, verdict: Verdict) -> Option<Duration> {
    match verdict {
        Verdict::Pass => Some(now),
        Verdict::Delay(delay) => Some(now + delay),
        Verdict::Drop(_) => None,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send { after: Duration, bytes: usize },
    Set(Settings),
}

fn steps(jitter_ms_max: u64) -> impl Strategy<Value = Vec<Step>> {
    let send = (0u64..20_000, 1usize..1500).prop_map(|(micros, bytes)| Step::Send {
        after: Duration::from_micros(micros),
        bytes,
    });
    let set = (
        0u64..100,
        0..=jitter_ms_max,
        0u32..200_000,
        proptest::option::of(10_000u64..100_000_000),
    )
        .prop_map(|(delay, jitter, loss, rate)| {
            Step::Set(Settings {
                delay: ms(delay),
                jitter: ms(jitter),
                loss: Loss::from_ppm(loss).unwrap(),
                rate: rate.and_then(Rate::from_bits),
            })
        });
    proptest::collection::vec(prop_oneof![8 => send, 1 => set], 1..200)
}

proptest! {
    #[test]
    fn without_jitter_order_is_kept_while_delay_and_loss_change(steps in steps(0), seed: u64) {
        let (mut link, mut rng, mut now, mut last) = (Link::default(), rng(seed), Duration::ZERO, Duration::ZERO);
        for step in steps {
            match step {
                Step::Set(settings) => {
                    if settings.rate != link.settings().rate {
                        last = Duration::ZERO;
                    }
                    link.set(settings);
                }
                Step::Send { after, bytes } => {
                    now += after;
                    if let Some(arrival) = arrival(now, link.judge(now, bytes, &mut rng)) {
                        prop_assert!(arrival >= last, "{arrival:?} overtakes {last:?}");
                        last = arrival;
                    }
                }
            }
        }
    }

    #[test]
    fn a_datagram_takes_the_delay_at_least_and_the_jitter_more_at_most(
        delay in 0u64..200, jitter in 1u64..100, seed: u64,
    ) {
        let mut link = Link::new(Settings { delay: ms(delay), jitter: ms(jitter), ..Settings::default() });
        let mut rng = rng(seed);
        for sent in (0..100).map(ms) {
            let arrival = arrival(sent, link.judge(sent, 1200, &mut rng)).unwrap();
            prop_assert!(arrival >= sent + ms(delay));
            prop_assert!(arrival <= sent + ms(delay + jitter));
        }
    }

    #[test]
    fn a_cut_link_passes_nothing_and_mends_with_its_settings(steps in steps(50), seed: u64) {
        let (mut link, mut rng, mut now) = (Link::default(), rng(seed), Duration::ZERO);
        link.set_cut(true);
        let mut expected = Settings::default();
        for step in steps {
            match step {
                Step::Set(settings) => {
                    link.set(settings);
                    expected = settings;
                }
                Step::Send { after, bytes } => {
                    now += after;
                    prop_assert_eq!(link.judge(now, bytes, &mut rng), Verdict::Drop(Cause::Cut));
                }
            }
        }
        link.set_cut(false);
        prop_assert_eq!(link.settings(), expected);
    }

    #[test]
    fn no_more_passes_than_the_rate_lets_through(
        rate in 100_000u64..100_000_000, delay in 0u64..100,
        sizes in proptest::collection::vec((0u64..2_000, 1usize..1500), 1..500), seed: u64,
    ) {
        let mut link = Link::new(Settings { delay: ms(delay), rate: Rate::from_bits(rate), ..Settings::default() });
        let (mut rng, mut now, mut bytes_passed) = (rng(seed), Duration::ZERO, 0u128);
        for (micros, bytes) in sizes {
            now += Duration::from_micros(micros);
            if let Some(arrival) = arrival(now, link.judge(now, bytes, &mut rng)) {
                bytes_passed += bytes as u128;
                let open = (arrival - ms(delay)).as_nanos();
                // One nanosecond of rounding for each datagram at most.
                prop_assert!(bytes_passed * 8 * 1_000_000_000 <= (open + 500) * u128::from(rate));
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_verdicts(steps in steps(50), seed: u64) {
        let verdicts = || {
            let (mut link, mut rng, mut now) = (Link::default(), rng(seed), Duration::ZERO);
            let mut verdicts = Vec::new();
            for step in &steps {
                match *step {
                    Step::Set(settings) => link.set(settings),
                    Step::Send { after, bytes } => {
                        now += after;
                        verdicts.push(link.judge(now, bytes, &mut rng));
                    }
                }
            }
            verdicts
        };
        prop_assert_eq!(verdicts(), verdicts());
    }
}

#[test]
fn as_many_are_lost_as_the_loss_says() {
    let sent = 200_000;
    for percent in [0u32, 1, 10, 50, 100] {
        let loss = Loss::from_ppm(percent * 10_000).unwrap();
        let mut link = Link::new(Settings {
            loss,
            ..Settings::default()
        });
        let mut rng = rng(u64::from(percent));
        let lost = (0..sent)
            .filter(|_| link.judge(ms(0), 1200, &mut rng) == Verdict::Drop(Cause::Lost))
            .count() as f64;
        let expected = f64::from(sent) * f64::from(percent) / 100.0;
        assert!(
            (lost - expected).abs() <= f64::from(sent) * 0.005,
            "{percent} %: {lost} of {sent}"
        );
    }
}

#[test]
fn a_link_without_faults_passes_everything_at_once() {
    let (mut link, mut rng) = (Link::default(), rng(1));
    assert!((0..100).all(|now| link.judge(ms(now), 1200, &mut rng) == Verdict::Pass));
}

#[test]
fn jitter_reorders() {
    let mut link = Link::new(Settings {
        delay: ms(10),
        jitter: ms(10),
        ..Settings::default()
    });
    let mut rng = rng(7);
    let arrivals: Vec<_> = (0..50)
        .map(|now| arrival(ms(now), link.judge(ms(now), 100, &mut rng)))
        .collect();
    assert!(!arrivals.is_sorted());
}

#[test]
fn a_queue_that_is_full_drops_and_takes_again_when_it_drained() {
    // 1,000 bytes take 8 ms at 1 Mbit/s; the queue holds what drains in 64 KiB ≙ 524 ms.
    let mut link = Link::new(Settings {
        rate: Rate::from_bits(1_000_000),
        ..Settings::default()
    });
    let mut rng = rng(1);
    let verdicts: Vec<_> = (0..100)
        .map(|_| link.judge(ms(0), 1000, &mut rng))
        .collect();
    let taken = verdicts
        .iter()
        .filter(|verdict| matches!(verdict, Verdict::Delay(_)))
        .count();
    assert_eq!(taken, 66);
    assert_eq!(verdicts[99], Verdict::Drop(Cause::QueueFull));
    assert_eq!(link.judge(ms(528), 1000, &mut rng), Verdict::Delay(ms(8)));
}

#[test]
fn a_link_that_gets_faster_does_not_wait_for_what_was_slow() {
    let mut link = Link::new(Settings {
        rate: Rate::from_bits(8),
        ..Settings::default()
    });
    let mut rng = rng(1);
    link.judge(ms(0), 3600, &mut rng);
    link.set(Settings {
        rate: Rate::from_bits(1_000_000),
        ..Settings::default()
    });
    assert!(arrival(ms(1), link.judge(ms(1), 1000, &mut rng)).unwrap() <= ms(10));
}

#[test]
fn percentages_and_rates_are_read_as_people_write_them() {
    assert_eq!("1%".parse(), Loss::from_ppm(10_000));
    assert_eq!("0.5%".parse(), Loss::from_ppm(5_000));
    assert_eq!("100%".parse(), Ok(Loss::ALL));
    assert_eq!("0".parse(), Ok(Loss::NONE));
    assert_eq!("0.5%".parse::<Loss>().unwrap().to_string(), "0.5%");
    for wrong in ["", "%", "1", "101%", "-1%", "NaN%", "x%"] {
        assert!(wrong.parse::<Loss>().is_err(), "{wrong}");
    }
    assert_eq!(Rate::parse_limit("500k"), Ok(Rate::from_bits(500_000)));
    assert_eq!(Rate::parse_limit("10Mbit"), Ok(Rate::from_bits(10_000_000)));
    assert_eq!(Rate::parse_limit("2G"), Ok(Rate::from_bits(2_000_000_000)));
    assert_eq!(Rate::parse_limit("1234"), Ok(Rate::from_bits(1234)));
    assert_eq!(Rate::parse_limit("0"), Ok(None));
    assert_eq!(Rate::parse_limit("off"), Ok(None));
    assert_eq!(Rate::from_bits(10_000_000).unwrap().to_string(), "10Mbit/s");
    for wrong in [
        "",
        "k",
        "-1",
        "1.5M",
        "99999999999999999999",
        "18446744073709551615G",
        "10é",
    ] {
        assert!(Rate::parse_limit(wrong).is_err(), "{wrong}");
    }
}
