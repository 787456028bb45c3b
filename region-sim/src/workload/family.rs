//! Who asks, what is asked, and about which kind of key.

/// A client.
pub type ClientId = usize;
/// An operation's place in the history.
pub type OperationId = usize;

/// Keys that are used alike, so that something exact can be said of them. A key's first letter names its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Only ever incremented, by positive numbers.
    Counter,
    /// Incremented and decremented.
    Balance,
    /// Incremented, set to 0 and deleted.
    Resettable,
    /// A set whose elements are each added by one operation only.
    Unique,
    /// A set over few elements, added and removed again and again.
    Small,
    /// A register, set to values that no other operation sets.
    Register,
    /// A register that one client alone sets, to values that no other operation sets.
    Owned,
    /// Everything at once.
    Anything,
    /// Everything, by clients of one region alone.
    Local,
    /// A set of elements that are added once, by clients of one region alone, that is deleted, expires and is made again.
    Fading,
    /// A counter and a set of elements that are added once, in turn, by clients of one region alone.
    Turning,
    /// Everything, by one client that asks the hosts of a region in turn.
    Single,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Counter,
        Self::Balance,
        Self::Resettable,
        Self::Unique,
        Self::Small,
        Self::Register,
        Self::Owned,
        Self::Anything,
        Self::Local,
        Self::Fading,
        Self::Turning,
        Self::Single,
    ];

    /// The family of a key.
    pub fn of(key: &[u8]) -> Self {
        let first = key.first();
        Self::ALL
            .into_iter()
            .find(|family| Some(&family.letter()) == first)
            .unwrap_or(Self::Anything)
    }

    /// What its keys begin with.
    pub(super) const fn letter(self) -> u8 {
        match self {
            Self::Counter => b'c',
            Self::Balance => b'b',
            Self::Resettable => b'z',
            Self::Unique => b'u',
            Self::Small => b's',
            Self::Register => b'r',
            Self::Owned => b'o',
            Self::Anything => b'a',
            Self::Local => b'l',
            Self::Fading => b'f',
            Self::Turning => b't',
            Self::Single => b'w',
        }
    }
}
