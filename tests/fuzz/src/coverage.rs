//! The compiler's coverage counters, which -C instrument-coverage puts in a section of their own.
//! Without `--cfg counted` the coverage is unknown.

/// The counters that have been seen with a value other than zero.
pub(crate) struct Coverage {
    seen: Vec<bool>,
    reached: usize,
}

#[cfg(counted)]
#[allow(unsafe_code)]
fn counters() -> &'static mut [u64] {
    unsafe extern "C" {
        static mut __start___llvm_prf_cnts: u64;
        static mut __stop___llvm_prf_cnts: u64;
    }
    let (start, stop) = (
        &raw mut __start___llvm_prf_cnts,
        &raw mut __stop___llvm_prf_cnts,
    );
    // SAFETY: the linker defines both ends of the section, and this program has one thread.
    unsafe { std::slice::from_raw_parts_mut(start, stop.offset_from(start) as usize) }
}

#[cfg(not(counted))]
fn counters() -> &'static mut [u64] {
    &mut []
}

impl Coverage {
    pub(crate) fn new() -> Coverage {
        counters().fill(0);
        Coverage {
            seen: vec![false; counters().len()],
            reached: 0,
        }
    }

    /// Whether the last input reached a counter for the first time.
    pub(crate) fn grows(&mut self) -> bool {
        let before = self.reached;
        for (seen, counter) in self.seen.iter_mut().zip(counters()) {
            if *counter != 0 {
                *counter = 0;
                self.reached += usize::from(!*seen);
                *seen = true;
            }
        }
        self.reached > before
    }

    pub(crate) fn summary(&self) -> String {
        match self.seen.len() {
            0 => "coverage not counted".to_owned(),
            all => format!("{} of {all} regions of code reached", self.reached),
        }
    }
}
