"""Why the messenger refuses a command: typed, and said in words."""


class MessengerError(Exception):
    """A command cannot be done; nothing has changed."""


class UnknownFriend(MessengerError):
    """Nobody with this key is in the friend list."""


class AlreadyFriend(MessengerError):
    """This key is in the friend list already, or it is our own."""


class NotConnected(MessengerError):
    """The friend is not online. Nothing is kept for later here: the caller may do that, and send
    when ConnectionChanged says that the friend has come."""


class QueueFull(MessengerError):
    """So much waits to be sent to the friend that no more is taken now."""


class UnknownTransfer(MessengerError):
    """There is no file transfer of this number with this friend."""


class TransferRefused(MessengerError):
    """The file transfer is not in a state in which this may be done."""


class BadValue(MessengerError, ValueError):
    """A text is too long, or a value is none that packets can carry."""
