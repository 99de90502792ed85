"""The grammars of libferrum.so, for the scripts that look at them token by token."""
import ctypes
import sys


class Options(ctypes.Structure):
    _fields_ = [("space", ctypes.c_int), ("ordered", ctypes.c_bool)]


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 508)]


EINVAL = -1


class Library:
    def __init__(self, path, vocabulary):
        self.lib, self.err = ctypes.CDLL(path), Error()
        self.lib.ferrum_vocabulary_mask_words.restype = ctypes.c_size_t
        self.lib.ferrum_constraint_may_end.restype = ctypes.c_bool
        self.tokenizer, self.vocabulary = ctypes.c_void_p(), ctypes.c_void_p()
        self.need(self.lib.ferrum_tokenizer_open(ctypes.byref(self.tokenizer), vocabulary.encode(), None, ctypes.byref(self.err)))
        self.need(self.lib.ferrum_vocabulary_open(ctypes.byref(self.vocabulary), self.tokenizer, ctypes.byref(self.err)))
        self.mask = (ctypes.c_uint64 * self.lib.ferrum_vocabulary_mask_words(self.vocabulary))()

    def need(self, code):
        if code:
            sys.exit("conformance: " + self.err.message.decode(errors="replace"))

    def compile(self, kind, text, *more):
        """A grammar, or None and the reason."""
        g, data = ctypes.c_void_p(), text.encode()
        code = getattr(self.lib, "ferrum_grammar_from_" + kind)(ctypes.byref(g), self.vocabulary, data, ctypes.c_size_t(len(data)), *more,
                                                                ctypes.byref(self.err))
        return (None, self.err.message.decode(errors="replace")) if code else (g, "")

    def close(self, g):
        self.lib.ferrum_grammar_close(g)

    def ids(self, text):
        ids, count, data = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_size_t(), text.encode()
        self.need(self.lib.ferrum_tokenize(self.tokenizer, data, ctypes.c_size_t(len(data)), 0, ctypes.byref(ids), ctypes.byref(count),
                                           ctypes.byref(self.err)))
        out = ids[:count.value]
        self.lib.ferrum_free(ids)
        return out

    def takes(self, g, text):
        """Whether the text may come, token by token, and end; and what is wrong between mask and parse, if anything is."""
        c, wrong = ctypes.c_void_p(), ""
        self.need(self.lib.ferrum_constraint_open(ctypes.byref(c), g, ctypes.byref(self.err)))
        ok = True
        for token in self.ids(text):
            self.need(self.lib.ferrum_constraint_mask(c, self.mask, ctypes.byref(self.err)))
            masked = bool(self.mask[token >> 6] >> (token & 63) & 1)
            ok = self.lib.ferrum_constraint_accept(c, token, ctypes.byref(self.err)) == 0
            if masked != ok:
                wrong = f"the mask says {masked} of token {token}, the parse {ok}"
            if not any(self.mask):
                wrong = "nothing may come, and the text is not at its end"
            if not ok:
                break
        ok = ok and self.lib.ferrum_constraint_may_end(c)
        self.lib.ferrum_constraint_close(c)
        return ok, wrong
