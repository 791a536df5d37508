// C++ operators, containers and exceptions. The program counts the objects that `main` creates with `new`.
#include "totals.h"
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

struct alignas(256) Wide {
    char buffer[256];
};

[[gnu::noinline]] static void thrower(int depth)
{
    std::string text(1000 + depth, 'x');
    if (depth == 0) throw std::runtime_error(text);
    thrower(depth - 1);
    text[0] = 'y';
}

int main()
{
    for (int round = 0; round < 200; round++) {
        int *volatile one = new int[round + 1];
        made(one, sizeof(int) * (round + 1));
        delete[] one, ended(sizeof(int) * (round + 1));
        Wide *volatile wide = new Wide;
        made(wide, sizeof(Wide));
        if (reinterpret_cast<unsigned long>(wide) % 256) return 1;
        if (round % 2) delete wide, ended(sizeof(Wide));
        if (new (std::nothrow) char[static_cast<size_t>(-1) / 4 + round]) return 1;
        try {
            thrower(round % 20);
            return 1;
        } catch (const std::exception &caught) {
            if (std::string(caught.what()).size() < 1000) return 1;
        }
        try {
            char *volatile never = new char[static_cast<size_t>(-1) / 4 + round];
            delete[] never;
            return 1;
        } catch (const std::bad_alloc &) {
        }
        std::map<int, std::vector<std::string>> map;
        for (int i = 0; i < 50; i++) map[i % 7].push_back(std::string(100, 'a'));
    }
    print_totals();
    return 0;
}
