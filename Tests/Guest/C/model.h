// A file system as POSIX describes it, where it leaves a choice as Linux does; in memory, without any thought of speed. `model.c`
// compares real ones with it. A call answers 0 or an errno.
#ifndef ADROS_MODEL_H
#define ADROS_MODEL_H
#include "test.h"

enum { LONGEST_NAME = 80, LONGEST_PATH = 512, MOST_LINKS = 40 };

struct node {
  char type; // f, d, l
  int mode, names, opens, removed;
  ino_t number; // 0: not known yet
  struct node *parent; // of a directory; its own of the root
  struct entry {
    char name[LONGEST_NAME];
    struct node *node;
  } *entries;
  int count;
  unsigned char *data;
  size_t size;
  char target[LONGEST_PATH];
};

static struct node *root, *here;
static int nodes;      // those that names lead to
static size_t content; // bytes in all files

static struct node *new_node(char type, int mode) {
  struct node *node = calloc(1, sizeof *node);
  node->type = type, node->mode = mode;
  return node;
}

static struct entry *find(struct node *directory, const char *name) {
  for (int i = 0; i < directory->count; i++)
    if (!strcmp(directory->entries[i].name, name)) return &directory->entries[i];
  return NULL;
}

static void add(struct node *directory, const char *name, struct node *node) {
  directory->entries = realloc(directory->entries, (directory->count + 1) * sizeof *directory->entries);
  struct entry *entry = &directory->entries[directory->count++];
  strcpy(entry->name, name);
  entry->node = node;
  if (!node->names++) nodes++;
  if (node->type == 'd') node->parent = directory;
}

static void set_size(struct node *file, size_t size) {
  content += size - file->size;
  file->data = realloc(file->data, size + 1);
  if (size > file->size) memset(file->data + file->size, 0, size - file->size);
  file->size = size;
}

static void forget_content(struct node *node) {
  if (!node->names && !node->opens && node->data) {
    set_size(node, 0);
    free(node->data);
    node->data = NULL;
  }
}

static void take(struct node *directory, const char *name) {
  struct entry *entry = find(directory, name);
  struct node *node = entry->node;
  *entry = directory->entries[--directory->count];
  if (--node->names) return;
  nodes--;
  if (node->type == 'd') node->removed = 1;
  forget_content(node);
}

static int links_of(const struct node *node) {
  if (node->type != 'd') return node->names;
  if (node->removed) return 0;
  int links = 2;
  for (int i = 0; i < node->count; i++) links += node->entries[i].node->type == 'd';
  return links;
}

static int is_above(const struct node *directory, const struct node *other) {
  for (;; other = other->parent) {
    if (other == directory) return 1;
    if (other == other->parent) return 0;
  }
}

// What a path leads to: the directory its last component is looked for in, and what that is.
struct place {
  struct node *parent;
  char name[LONGEST_NAME];
  enum { NAMED, DOT, DOT_DOT, ROOT } last;
  int slash; // behind the last component
};

static int look_up(struct node *at, const char *path, int follow, int *links, struct node **node);

static int locate(struct node *at, const char *path, int *links, struct place *place) {
  if (!*path) return ENOENT;
  if (*path == '/') at = root;
  path += strspn(path, "/");
  place->parent = at, place->last = ROOT, place->slash = 0;
  while (*path) {
    if (at->type != 'd') return ENOTDIR;
    size_t length = strcspn(path, "/");
    memcpy(place->name, path, length);
    place->name[length] = 0;
    path += length;
    size_t slashes = strspn(path, "/");
    path += slashes;
    place->parent = at, place->slash = slashes > 0;
    place->last = !strcmp(place->name, ".") ? DOT : !strcmp(place->name, "..") ? DOT_DOT : NAMED;
    if (!*path) return 0;
    struct entry *entry = find(at, place->name);
    if (place->last == DOT_DOT) at = at->parent;
    else if (place->last == NAMED && !entry) return ENOENT;
    else if (place->last == NAMED && entry->node->type == 'l') {
      if (++*links > MOST_LINKS) return ELOOP;
      int error = look_up(at, entry->node->target, 1, links, &at);
      if (error) return error;
    } else if (place->last == NAMED) at = entry->node;
  }
  return 0;
}

static int look_up(struct node *at, const char *path, int follow, int *links, struct node **node) {
  struct place place;
  int error = locate(at, path, links, &place);
  if (error) return error;
  *node = place.last == DOT_DOT ? place.parent->parent : place.parent;
  if (place.last != NAMED) return 0;
  struct entry *entry = find(place.parent, place.name);
  if (!entry) return ENOENT;
  *node = entry->node;
  if (entry->node->type == 'l' && (follow || place.slash)) {
    if (++*links > MOST_LINKS) return ELOOP;
    error = look_up(place.parent, entry->node->target, 1, links, node);
    if (error) return error;
  }
  return place.slash && (*node)->type != 'd' ? ENOTDIR : 0;
}

static int model_find(const char *path, int follow, struct node **node) {
  int links = 0;
  return look_up(here, path, follow, &links, node);
}

// For a call that makes a name.
static int new_name(const char *path, int may_have_slash, struct place *place) {
  int links = 0, error = locate(here, path, &links, place);
  if (error) return error;
  if (place->last != NAMED) return EEXIST;
  if (find(place->parent, place->name)) return EEXIST;
  if (place->slash && !may_have_slash) return ENOENT;
  return place->parent->removed ? ENOENT : 0;
}

static int model_open(const char *path, int flags, int mode, struct node **node) {
  int links = 0, writes = (flags & O_ACCMODE) != O_RDONLY;
  if (flags & O_CREAT) {
    struct node *at = here;
    for (;;) {
      struct place place;
      int error = locate(at, path, &links, &place);
      if (error) return error;
      if (place.last != NAMED) return flags & O_EXCL ? EEXIST : EISDIR;
      if (place.slash) return EISDIR;
      struct entry *entry = find(place.parent, place.name);
      if (!entry) {
        if (place.parent->removed) return ENOENT;
        add(place.parent, place.name, *node = new_node('f', mode));
        break;
      }
      if (flags & O_EXCL) return EEXIST;
      *node = entry->node;
      if ((*node)->type == 'd') return EISDIR;
      if ((*node)->type == 'f') break;
      if (flags & O_NOFOLLOW || ++links > MOST_LINKS) return ELOOP;
      at = place.parent;
      path = (*node)->target;
    }
  } else {
    int error = look_up(here, path, !(flags & O_NOFOLLOW), &links, node);
    if (error) return error;
    if ((*node)->type == 'l') return flags & O_DIRECTORY ? ENOTDIR : ELOOP;
    if ((*node)->type != 'd' && flags & O_DIRECTORY) return ENOTDIR;
    if ((*node)->type == 'd' && writes) return EISDIR;
  }
  if (flags & O_TRUNC) set_size(*node, 0);
  (*node)->opens++;
  return 0;
}

static void model_close(struct node *node) {
  node->opens--;
  forget_content(node);
}

static int model_mkdir(const char *path, int mode) {
  struct place place;
  int error = new_name(path, 1, &place);
  if (!error) add(place.parent, place.name, new_node('d', mode));
  return error;
}

static int model_symlink(const char *target, const char *path) {
  struct place place;
  if (!*target) return ENOENT;
  int error = new_name(path, 0, &place);
  if (error) return error;
  struct node *node = new_node('l', 0777);
  strcpy(node->target, target);
  add(place.parent, place.name, node);
  return 0;
}

static int model_link(const char *from, const char *path) {
  struct node *node;
  struct place place;
  int error = model_find(from, 0, &node);
  if (!error) error = new_name(path, 0, &place);
  if (error) return error;
  if (node->type == 'd') return EPERM;
  add(place.parent, place.name, node);
  return 0;
}

static int model_unlink(const char *path) {
  struct place place;
  int links = 0, error = locate(here, path, &links, &place);
  if (error) return error;
  if (place.last != NAMED) return EISDIR;
  struct entry *entry = find(place.parent, place.name);
  if (!entry) return ENOENT;
  if (entry->node->type == 'd') return EISDIR;
  if (place.slash) return ENOTDIR;
  take(place.parent, place.name);
  return 0;
}

static int model_rmdir(const char *path) {
  struct place place;
  int links = 0, error = locate(here, path, &links, &place);
  if (error) return error;
  if (place.last == ROOT) return EBUSY;
  if (place.last == DOT) return EINVAL;
  if (place.last == DOT_DOT) return ENOTEMPTY;
  struct entry *entry = find(place.parent, place.name);
  if (!entry) return ENOENT;
  if (entry->node->type != 'd') return ENOTDIR;
  if (entry->node->count) return ENOTEMPTY;
  take(place.parent, place.name);
  return 0;
}

static int model_rename(const char *old_path, const char *new_path, int flags) {
  struct place old, new;
  int links = 0, error = locate(here, old_path, &links, &old), exchanges = flags & RENAME_EXCHANGE;
  links = 0;
  if (!error) error = locate(here, new_path, &links, &new);
  if (error) return error;
  if (old.last != NAMED) return EBUSY;
  if (new.last != NAMED) return flags & RENAME_NOREPLACE ? EEXIST : EBUSY;
  struct entry *source = find(old.parent, old.name), *victim = find(new.parent, new.name);
  if (!source || new.parent->removed) return ENOENT;
  if (victim && flags & RENAME_NOREPLACE) return EEXIST;
  if (!victim && exchanges) return ENOENT;
  struct node *node = source->node, *other = victim ? victim->node : NULL;
  if (exchanges && new.slash && other->type != 'd') return ENOTDIR;
  if (node->type != 'd' && (old.slash || (new.slash && !exchanges))) return ENOTDIR;
  if (old.parent != new.parent && node->type == 'd' && is_above(node, new.parent)) return EINVAL;
  if (old.parent != new.parent && other && other->type == 'd' && is_above(other, old.parent)) return exchanges ? EINVAL : ENOTEMPTY;
  if (node == other) return 0;
  if (exchanges) {
    source->node = other, victim->node = node;
    if (node->type == 'd') node->parent = new.parent;
    if (other->type == 'd') other->parent = old.parent;
    return 0;
  }
  if (other) {
    if (node->type == 'd' && other->type != 'd') return ENOTDIR;
    if (node->type != 'd' && other->type == 'd') return EISDIR;
    if (other->count) return ENOTEMPTY;
    take(new.parent, new.name);
  }
  node->names++; // it has one all the time
  take(old.parent, old.name);
  add(new.parent, new.name, node);
  node->names--;
  return 0;
}

static int model_truncate(const char *path, long size) {
  struct node *node;
  if (size < 0) return EINVAL;
  int error = model_find(path, 1, &node);
  if (error) return error;
  if (node->type == 'd') return EISDIR;
  set_size(node, size);
  return 0;
}

// The path of a directory that names lead to.
static void path_of(struct node *directory, char *path) {
  if (directory == root) {
    strcpy(path, "/");
    return;
  }
  path_of(directory->parent, path);
  if (path[1]) strcat(path, "/");
  for (int i = 0; i < directory->parent->count; i++)
    if (directory->parent->entries[i].node == directory) strcat(path, directory->parent->entries[i].name);
}

// A directory's path goes through one that has been removed.
static int is_gone(struct node *directory) {
  for (; directory != root; directory = directory->parent)
    if (directory->removed) return 1;
  return 0;
}
#endif
