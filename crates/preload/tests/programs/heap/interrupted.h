/* Whether a signal's handler may allocate: where it interrupted the program itself or the library that records, but not the
   allocator, which allows no such thing, nor the loader. */
#include <link.h>
#include <string.h>
#include <ucontext.h>

enum { RANGES = 8 };

static struct range {
    unsigned long begin, end;
} ranges[RANGES];
static int range_count;

/* The program itself and the library that was loaded before all others. */
static int visit(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size, (void)data;
    int own = info->dlpi_name[0] == 0 || strstr(info->dlpi_name, "/fd/");
    for (int i = 0; own && i < info->dlpi_phnum && range_count < RANGES; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && segment->p_flags & PF_X) {
            unsigned long begin = info->dlpi_addr + segment->p_vaddr;
            ranges[range_count++] = (struct range){begin, begin + segment->p_memsz};
        }
    }
    return 0;
}

static void find_ranges(void)
{
    dl_iterate_phdr(visit, NULL);
}

static int may_allocate(const void *context)
{
    unsigned long pc = (unsigned long)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    int may = 0;
    for (int i = 0; i < range_count; i++) may |= ranges[i].begin <= pc && pc < ranges[i].end;
    return may;
}
