UPDATE mart.erasure_salt SET salt = decode(%(salt)s, 'hex')
