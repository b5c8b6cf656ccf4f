//! Routes that answer on one path alone.

/// Paths, sorted within each length: most lengths have few, so that hardly more than one is looked at.
#[derive(Debug, Default)]
pub(crate) struct ExactPaths(Vec<Vec<(Box<[u8]>, usize)>>);

impl ExactPaths {
    /// Enters a path that is not there yet.
    pub(crate) fn insert(&mut self, path: &[u8], route: usize) {
        if self.0.len() <= path.len() {
            self.0.resize_with(path.len() + 1, Vec::new);
        }
        let same_length = &mut self.0[path.len()];
        let at = same_length.partition_point(|(known, _)| **known < *path);
        same_length.insert(at, (path.into(), route));
    }

    pub(crate) fn get(&self, path: &[u8]) -> Option<usize> {
        let same_length = self.0.get(path.len())?;
        let at = same_length.binary_search_by(|(known, _)| (**known).cmp(path)).ok()?;
        Some(same_length[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_found_and_no_other() {
        let paths = ["/", "/b", "/a", "/c", "/users", "/posts", ""];
        let mut exact = ExactPaths::default();
        for (route, path) in paths.iter().enumerate() {
            exact.insert(path.as_bytes(), route);
        }
        for (route, path) in paths.iter().enumerate() {
            assert_eq!(exact.get(path.as_bytes()), Some(route), "{path}");
        }
        for other in ["/d", "/userz", "/user", "/users/", "x"] {
            assert_eq!(exact.get(other.as_bytes()), None, "{other}");
        }
    }
}
