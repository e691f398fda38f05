/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/filename.h - the names of a file as its recipient's programs may read them.
 *
 * A part can name its file four times and in two ways each, and programs differ in which one
 * counts: all of them do here. What a name becomes on a disk is what is judged, not what it looks
 * like.
 */
#pragma once

#include "base/arena.h"

enum { FILENAME_MAX_NAMES = 8, FILENAME_MAX_LEN = 512 };

struct filename_list {
    struct str items[FILENAME_MAX_NAMES]; /* UTF-8 where the sender kept to the rules */
    size_t count;
    bool cut; /* there are more, or some value is too long to be read to its end */
};
/* All names that the header of a part gives its file, each once; in `arena`. */
void filename_collect(struct str header, struct arena *arena, struct filename_list *out);

struct filename {
    struct str text;      /* last piece of a path; ASCII in lower case; without what does not show
                             and without what Windows drops: blanks and dots at the end, ":stream" */
    struct str extension; /* behind the last dot; "" */
    const char *trick;    /* how it hides what it is; NULL: it does not */
};
void filename_read(struct str name, struct arena *arena, struct filename *out);

/* Extensions of what runs something when it is opened, on Windows, macOS or in Office: programs,
 * scripts, installers, shortcuts, and the containers in which Windows does not mark what came from
 * outside. A blank around each. */
#define FILENAME_DANGEROUS                                                                         \
    " "                                                                                            \
    "ade adp apk app appinstaller application appref-ms appx appxbundle bas bash "                 \
    "bat bgi cdxml chm cmd com command cpl csh deb desktop diagcab diagcfg diagpkg "               \
    "dll dmg drv elf ex ex_ exe fxp gadget grp hlp hpj hta htc img inf ins iso isp "               \
    "its jar jnlp js jse ksh lib library-ms lnk mad maf mag mam maq mar mas mat "                  \
    "mau mav maw mcf mda mdb mde mdt mdw mdz mjs msc msh msh1 msh2 mshxml msi msix "               \
    "msixbundle msp mst msu nsh ocx one onepkg ops osd pcd pif pkg pl plg prf prg "                \
    "printerexport ps1 ps1xml ps2 ps2xml psc1 psc2 psd1 psdm1 psm1 py pyc pyo pyw "                \
    "pyz pyzw rdp reg rpm scf scpt scptd scr sct search-ms settingcontent-ms sh "                  \
    "shb shs slk sys terminal theme themepack udl url vb vba vbe vbp vbs vhd vhdx "                \
    "vsmacros vsw vxd webpnp website wim ws wsb wsc wsf wsh xbap xll xnk zsh "
bool filename_is_dangerous(struct str extension);
/* Does it fit the pattern (lower case; * any characters, ? one byte)? Linear in the product. */
bool filename_matches(struct str name, struct str pattern);
/* Fit for a line of a log or a terminal: what cannot be shown, or moves what can, becomes "?"; the
 * middle of a long one is left out. */
struct str filename_printable(struct str name, struct arena *arena);
