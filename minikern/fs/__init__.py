"""Files: inodes, dentries, mounts, open files, descriptors. Named after ``fs/`` in Linux."""
