// libext2fs for Swift, with the two macros that the importer cannot see.
#include <ext2fs/ext2fs.h>
#include <et/com_err.h>

static inline ext2_ino_t shim_first_inode(ext2_filsys fs) { return EXT2_FIRST_INODE(fs->super); }
static inline io_manager shim_unix_manager(void) { return unix_io_manager; }
static inline void shim_set_now(ext2_filsys fs, time_t now) { fs->now = now; }
static inline errcode_t shim_file_open(ext2_filsys fs, ext2_ino_t ino, ext2_file_t *out) {
    return ext2fs_file_open(fs, ino, EXT2_FILE_WRITE, out);
}
static inline errcode_t shim_file_open_to_read(ext2_filsys fs, ext2_ino_t ino, ext2_file_t *out) {
    return ext2fs_file_open(fs, ino, 0, out);
}
static inline uint8_t shim_entry_length(const struct ext2_dir_entry *entry) { return (uint8_t)(entry->name_len & 0xff); }
static inline const char *shim_entry_name(const struct ext2_dir_entry *entry) { return entry->name; }
