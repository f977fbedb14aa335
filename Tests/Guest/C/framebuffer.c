// The display's memory, and what the console draws there.
#include "terminal.h"
#include <linux/fb.h>
#include <linux/kd.h>
#include <sys/uio.h>

static int fb;
static struct fb_fix_screeninfo fixed;
static struct fb_var_screeninfo mode;

static void open_display(void) {
  fb = OK(open("/dev/fb0", O_RDWR));
  OK(ioctl(fb, FBIOGET_FSCREENINFO, &fixed));
  OK(ioctl(fb, FBIOGET_VSCREENINFO, &mode));
}

CASE(describes_itself) {
  open_display();
  EQUAL(mode.bits_per_pixel, 32);
  EQUAL(mode.red.offset, 16);
  EQUAL(mode.green.offset, 8);
  EQUAL(mode.blue.offset, 0);
  EQUAL(mode.red.length, 8);
  EQUAL(fixed.type, FB_TYPE_PACKED_PIXELS);
  EQUAL(fixed.visual, FB_VISUAL_TRUECOLOR);
  CHECK(mode.xres >= 640 && mode.yres >= 400 && fixed.line_length >= mode.xres * 4);
  CHECK(fixed.smem_len >= fixed.line_length * mode.yres && fixed.smem_start != 0);
  struct stat about;
  OK(fstat(fb, &about));
  CHECK(S_ISCHR(about.st_mode) && about.st_rdev == 29 << 8);
}

CASE(modes) {
  open_display();
  struct fb_var_screeninfo wanted = mode;
  wanted.activate = FB_ACTIVATE_NOW;
  OK(ioctl(fb, FBIOPUT_VSCREENINFO, &wanted));
  EQUAL(wanted.xres, mode.xres);
  wanted.yoffset = mode.yres_virtual;
  FAILS(ioctl(fb, FBIOPAN_DISPLAY, &wanted), EINVAL);
  FAILS(ioctl(fb, FBIOGET_VSCREENINFO, (void *)16), EFAULT);
  FAILS(ioctl(fb, FBIOGET_FSCREENINFO, (void *)16), EFAULT);
  FAILS(ioctl(fb, 0x46ff, 0), ENOTTY);
}

// A mapping, a file, and a child see the same memory.
CASE(one_memory) {
  open_display();
  size_t size = fixed.line_length * mode.yres;
  volatile uint32_t *pixels = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fb, 0);
  CHECK((void *)pixels != MAP_FAILED);
  size_t last = size / 4 - 1;
  pixels[last] = 0x123456;
  uint32_t got = 0;
  EQUAL(pread(fb, &got, 4, last * 4), 4);
  EQUAL(got, 0x123456);
  got = 0xfedcba;
  EQUAL(pwrite(fb, &got, 4, last * 4), 4);
  EQUAL(pixels[last], 0xfedcba);
  EQUAL(reap(CHILD({
    EQUAL(pixels[last], 0xfedcba);
    pixels[last] = 0x11;
  })), 0);
  EQUAL(pixels[last], 0x11);
  OK(mprotect((void *)pixels, size, PROT_READ));
  OK(mprotect((void *)pixels, size, PROT_READ | PROT_WRITE));
  pixels[last] = 0x22;
  EQUAL(pread(fb, &got, 4, last * 4), 4);
  EQUAL(got, 0x22);
  OK(madvise((void *)pixels, size, MADV_WILLNEED));
  OK(msync((void *)pixels, size, MS_SYNC));
  // Nobody else reads it through the process.
  struct iovec here = {&got, 4}, there = {(void *)&pixels[last], 4};
  FAILS(process_vm_readv(getpid(), &here, 1, &there, 1, 0), EFAULT);
  OK(munmap((char *)pixels + 4096, size - 8192));
  OK(munmap((void *)pixels, size));
  CHECK(mmap(0, 4096, PROT_READ, MAP_SHARED, fb, (fixed.smem_len + 4095) & ~4095u) == MAP_FAILED && errno == EINVAL);
  EQUAL(pread(fb, &got, 4, fixed.smem_len), 0);
  FAILS(pwrite(fb, &got, 4, fixed.smem_len + 4), EFBIG);
}

CASE(not_for_everybody) {
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    FAILS(open("/dev/fb0", O_RDWR), EACCES);
  })), 0);
  int read_only = OK(open("/dev/fb0", O_RDONLY));
  CHECK(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, read_only, 0) == MAP_FAILED && errno == EACCES);
}

// MARK: The console

static unsigned char glyphs[512 * 32 * 4];
static struct unipair pairs[2048];

// Whether a character is drawn at a place as the font has it: in two colours.
static int is_drawn(int character, int row, int column, struct console_font_op *font, struct unimapdesc *map) {
  int glyph = -1;
  for (int i = 0; i < map->entry_ct; i++) {
    if (pairs[i].unicode == character) glyph = pairs[i].fontpos;
  }
  if (glyph < 0) return 0;
  int bytes = (font->width + 7) / 8;
  for (int y = 0; y < font->height; y++) {
    uint32_t line[32];
    off_t at = (row * font->height + y) * (off_t)fixed.line_length + column * font->width * 4;
    EQUAL(pread(fb, line, font->width * 4, at), font->width * 4);
    for (int x = 0; x < font->width; x++) {
      int is_set = glyphs[(glyph * 32 + y) * bytes + x / 8] >> (7 - x % 8) & 1;
      if (is_set != ((line[x] & 0xffffff) != 0)) return 0;
    }
  }
  return 1;
}

static int terminal;
static void get_font(struct console_font_op *font, struct unimapdesc *map) {
  *font = (struct console_font_op){.op = KD_FONT_OP_GET, .width = 32, .height = 32, .charcount = 512, .data = glyphs};
  OK(ioctl(terminal, KDFONTOP, font));
  *map = (struct unimapdesc){sizeof pairs / sizeof *pairs, pairs};
  OK(ioctl(terminal, GIO_UNIMAP, map));
}

static void put(const char *text) { EQUAL(write(terminal, text, strlen(text)), strlen(text)); }

static void wait_for(int character, int row, int column, struct console_font_op *font, struct unimapdesc *map) {
  for (int i = 0; i < 200; i++) {
    if (is_drawn(character, row, column, font, map)) return;
    usleep(10000);
  }
  FAIL("U+%04X is not at %d, %d", character, row, column);
}

CASE(text_is_drawn) {
  open_display();
  terminal = OK(open("/dev/tty1", O_RDWR | O_NOCTTY));
  struct console_font_op font;
  struct unimapdesc map;
  get_font(&font, &map);
  struct winsize size;
  OK(ioctl(terminal, TIOCGWINSZ, &size));
  EQUAL(size.ws_row, mode.yres / font.height);
  EQUAL(size.ws_col, mode.xres / font.width);
  put("\033c\033[?25lA\xc3\xa9\xe2\x94\x80\033[5;10Hx\r\n");
  wait_for('x', 4, 9, &font, &map);
  wait_for('A', 0, 0, &font, &map);
  wait_for(0xe9, 0, 1, &font, &map);
  wait_for(0x2500, 0, 2, &font, &map);
  // It scrolls: the line that was the fifth is the first.
  char end[32];
  sprintf(end, "\033[%d;1H\n\n\n\n", size.ws_row);
  put(end);
  wait_for('x', 0, 9, &font, &map);
  put("\033c");
}

// Another font changes what is drawn, and how much.
CASE(fonts) {
  open_display();
  terminal = OK(open("/dev/tty1", O_RDWR | O_NOCTTY));
  struct console_font_op font, old;
  struct unimapdesc map;
  get_font(&old, &map);
  static struct unipair old_pairs[2048];
  struct unimapdesc old_map = {map.entry_ct, old_pairs};
  memcpy(old_pairs, pairs, sizeof pairs);
  struct winsize before, after;
  OK(ioctl(terminal, TIOCGWINSZ, &before));
  put("\033c\033[?25l");
  // Twice as large: each glyph is its own pattern.
  memset(glyphs, 0, sizeof glyphs);
  for (int i = 0; i < 256; i++) {
    for (int y = 0; y < 32; y++) glyphs[i * 64 + y * 2] = i, glyphs[i * 64 + y * 2 + 1] = y << 2 | 1;
  }
  font = (struct console_font_op){.op = KD_FONT_OP_SET, .width = 16, .height = 32, .charcount = 256, .data = glyphs};
  OK(ioctl(terminal, KDFONTOP, &font));
  OK(ioctl(terminal, TIOCGWINSZ, &after));
  EQUAL(after.ws_row, mode.yres / 32);
  EQUAL(after.ws_col, mode.xres / 16);
  struct unipair three[3] = {{'Q', 0x81}, {'R', 0x42}, {0x263a, 1}};
  struct unimapdesc mapping = {3, three};
  struct unimapinit none = {0};
  OK(ioctl(terminal, PIO_UNIMAPCLR, &none));
  OK(ioctl(terminal, PIO_UNIMAP, &mapping));
  put("QR\xe2\x98\xba");
  get_font(&font, &map);
  EQUAL(font.width, 16);
  EQUAL(font.height, 32);
  wait_for('Q', 0, 0, &font, &map);
  wait_for('R', 0, 1, &font, &map);
  wait_for(0x263a, 0, 2, &font, &map);
  // What is no font.
  font = (struct console_font_op){.op = KD_FONT_OP_SET, .width = 33, .height = 16, .charcount = 256, .data = glyphs};
  FAILS(ioctl(terminal, KDFONTOP, &font), EINVAL);
  font = (struct console_font_op){.op = KD_FONT_OP_SET, .width = 8, .height = 33, .charcount = 256, .data = glyphs};
  FAILS(ioctl(terminal, KDFONTOP, &font), EINVAL);
  font = (struct console_font_op){.op = KD_FONT_OP_SET, .width = 8, .height = 16, .charcount = 513, .data = glyphs};
  FAILS(ioctl(terminal, KDFONTOP, &font), EINVAL);
  font = (struct console_font_op){.op = KD_FONT_OP_SET, .width = 8, .height = 16, .charcount = 256, .data = (void *)16};
  FAILS(ioctl(terminal, KDFONTOP, &font), EFAULT);
  font = (struct console_font_op){.op = KD_FONT_OP_GET, .width = 8, .height = 8, .charcount = 512, .data = glyphs};
  FAILS(ioctl(terminal, KDFONTOP, &font), ENOSPC);
  mapping.entry_ct = 1;
  FAILS(ioctl(terminal, GIO_UNIMAP, &mapping), ENOMEM);
  EQUAL(reap(CHILD({
    OK(setuid(1000));
    font = (struct console_font_op){.op = KD_FONT_OP_SET_DEFAULT};
    FAILS(ioctl(terminal, KDFONTOP, &font), EPERM);
  })), 0);
  font = (struct console_font_op){.op = KD_FONT_OP_SET_DEFAULT};
  OK(ioctl(terminal, KDFONTOP, &font));
  // The map stays what it was on Linux.
  OK(ioctl(terminal, PIO_UNIMAPCLR, &none));
  OK(ioctl(terminal, PIO_UNIMAP, &old_map));
  OK(ioctl(terminal, TIOCGWINSZ, &after));
  CHECK(before.ws_row == after.ws_row && before.ws_col == after.ws_col);
  put("\033c");
}

// A program that draws itself, and text that comes back over it.
CASE(graphics_and_text) {
  open_display();
  terminal = OK(open("/dev/tty1", O_RDWR | O_NOCTTY));
  struct console_font_op font;
  struct unimapdesc map;
  get_font(&font, &map);
  put("\033c\033[?25lT");
  wait_for('T', 0, 0, &font, &map);
  OK(ioctl(terminal, KDSETMODE, KD_GRAPHICS));
  uint32_t black[32] = {0}, line[32];
  for (int y = 0; y < font.height; y++) {
    for (int x = 0; x < 32; x++) black[x] = 0x808080;
    EQUAL(pwrite(fb, black, font.width * 4, y * (off_t)fixed.line_length), font.width * 4);
  }
  put("U");
  usleep(50000);
  EQUAL(pread(fb, line, 4, 0), 4);
  EQUAL(line[0], 0x808080);
  OK(ioctl(terminal, KDSETMODE, KD_TEXT));
  wait_for('T', 0, 0, &font, &map);
  wait_for('U', 0, 1, &font, &map);
  put("\033c");
}
